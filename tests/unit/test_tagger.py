"""The `tagger` extractor: what holds for any model, and what the package's own must be able to say."""

from __future__ import annotations

import datetime as dt
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smartmem.errors import BadRecord, ConfigError
from smartmem.memory.extract import Extraction, create_extractor
from smartmem.memory.extract.labelled import read_labelled
from smartmem.memory.extract.spans import WINDOW, Span, facts_by
from smartmem.memory.extract.tagger import PACKAGED
from smartmem.memory.extract.training import prepared, train
from smartmem.memory.facts import Message
from tests.support.data import list_hashes

SAID_AT = dt.datetime(2026, 3, 10, 9, 30, tzinfo=dt.timezone(dt.timedelta(hours=1)))  # a Tuesday


def extract(text: str, **options: object) -> Extraction:
    message = Message(user_id=1, source_text=text, occurred_at=SAID_AT)
    return create_extractor({"name": "tagger", **options}).extract(message)


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        ("By the way, I work as a nurse in Leeds.", "fact", "I work as a nurse in Leeds"),
        ("你好，我在成都开了一家奶茶店。", "fact", "我在成都开了一家奶茶店"),
        ("I'm allergic to peanuts, so what can I eat in Thailand?", "constraint", "I'm allergic to peanuts"),
        ("以后回答我都用中文。", "constraint", "以后回答我都用中文"),
        ("I can't stand olives.", "preference", "I can't stand olives"),
        ("嗨，我在成都开了一家奶茶店。", "fact", "我在成都开了一家奶茶店"),
        ("i live in porto with my grandmother and what is the capital of peru", "fact", None),
    ],
)
def test_a_fact_is_found_with_its_type_and_place(text: str, kind: str, said: str | None) -> None:
    (fact,) = extract(text).facts
    assert fact.memory_type == kind
    assert fact.span is not None
    assert text[slice(*fact.span)] == fact.content
    if said is not None:
        assert fact.content == said


@pytest.mark.parametrize(
    "text",
    [
        "", " \n ", "🎉🎉", "How long do red lentils need?", "谢谢，太好了！", "Translate this: I live in Rome.",
        "If I were rich I'd buy a boat.", "She said \"I am allergic to nuts\".", "同事说他对花生过敏。",
    ],
)  # fmt: skip
def test_what_says_nothing_of_the_user_yields_nothing(text: str) -> None:
    found = extract(text)
    assert (found.facts, found.outcome, found.reason) == ((), "nothing", "nothing tagged")


def test_what_the_user_asks_to_keep_is_kept_whatever_the_field_says() -> None:
    (fact,) = extract("Remember: my spare key is under the blue pot.").facts
    assert fact.is_explicit
    assert "blue pot" in fact.content


def test_a_todo_ends_on_the_day_that_it_names() -> None:
    (fact,) = extract("I have to send the tax form by Friday.").facts
    assert (fact.memory_type, fact.ttl_at and fact.ttl_at.date()) == ("todo_hint", dt.date(2026, 3, 13))


def test_a_long_message_is_read_to_its_end() -> None:
    text = "The weather is grey. " * (3 * WINDOW // 20) + "I live in Leeds."
    (fact,) = extract(text).facts
    assert fact.span is not None
    assert text[slice(*fact.span)] == fact.content == "I live in Leeds"


def test_the_most_confident_facts_stand() -> None:
    text = "I'm a baker. I have two cats. I live in Leeds. I'm allergic to nuts. I play the cello."
    every, two = extract(text, max_facts=9).facts, extract(text, max_facts=2).facts
    assert len(every) > 2
    assert sorted(fact.confidence for fact in two) == sorted(fact.confidence for fact in every)[-2:]


def test_a_stretch_that_is_likelier_than_not_is_unsure_below_the_bar() -> None:
    text = "I sing in a choir, I dance. The bridge evening has moved to Thursdays. It rains. I fence."

    def tag(said: str, known: object) -> list[Span]:
        places = {"I sing in a choir": 0.9, "I dance": 0.75, "The bridge evening has moved to Thursdays": 0.6,
                  "I fence": 0.4}  # fmt: skip
        return [Span("fact", said.index(one), said.index(one) + len(one), sure) for one, sure in places.items()]

    message = Message(user_id=1, source_text=text, occurred_at=SAID_AT)
    found = facts_by(tag, message, min_probability=0.75, max_facts=3)
    assert [(one.content, one.unsure) for one in (*found.facts, *found.unsure)] == [
        ("I sing in a choir", False), ("I dance", False), ("The bridge evening has moved to Thursdays", True),
    ]  # fmt: skip
    assert found.outcome == "facts"
    alone = facts_by(tag, message, min_probability=0.95, max_facts=3)
    assert (alone.outcome, len(alone.unsure), alone.reason) == ("nothing", 3, "nothing but what is unsure")


@settings(max_examples=40, deadline=None)
@given(st.text(alphabet="I live我住在 Leedsnot不{}\"'“”.。!？\n\r\t1£👨‍👩‍👧é\u0000", max_size=200))
def test_any_text_gives_facts_that_stand_in_it(text: str) -> None:
    for fact in extract(text).facts:
        assert fact.span is not None
        assert text[slice(*fact.span)] == fact.content
        assert fact.content
        assert 0 <= fact.confidence <= 1.0001


def test_threads_share_a_model() -> None:
    texts = ["I live in Leeds.", "What time is it?", "我对花生过敏。", "I can't stand olives, really."] * 20
    alone = [extract(text).facts for text in texts]
    with ThreadPoolExecutor(8) as pool:
        assert [found.facts for found in pool.map(extract, texts)] == alone


def test_a_folder_without_models_is_refused_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="smartmem tagger train"):
        create_extractor({"name": "tagger", "models": str(tmp_path)})


def test_a_file_that_is_no_model_and_an_option_out_of_range_are_refused(tmp_path: Path) -> None:
    (tmp_path / "en.crfsuite").write_bytes(b"not a model")
    with pytest.raises(ConfigError, match=r"en\.crfsuite is no model of the tagger"):
        extract("I live in Leeds.", models=str(tmp_path))
    with pytest.raises(ConfigError, match=r"min_probability=7 .* 0 to 1"):
        extract("I live in Leeds.", min_probability=7)


def test_training_teaches_what_the_lines_say_and_gives_the_same_bytes_again(tmp_path: Path) -> None:
    made_up = tmp_path / "list.txt"
    made_up.write_text("{p:zorks are the best} today\nthe zorks left\n" * 8, "utf-8")
    known = prepared(read_labelled(made_up))
    assert set(known) == {"en"}
    (first,), (second,) = (train(known, tmp_path / name, iterations=30) for name in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()
    (fact,) = extract("zorks are the best today", models=str(tmp_path / "a")).facts
    assert (fact.memory_type, fact.content) == ("preference", "zorks are the best")
    assert extract("我对花生过敏。", models=str(tmp_path / "a")).facts  # the package's own reads what this one lacks
    with pytest.raises(BadRecord, match="no labelled message"):
        train({}, tmp_path / "c")


def test_the_package_has_the_tagger_of_the_lists_that_stand_in_the_repository() -> None:
    """Who changes a list trains anew: `make tagger`."""
    assert json.loads((PACKAGED / "card.json").read_text("utf-8"))["files"] == list_hashes()
