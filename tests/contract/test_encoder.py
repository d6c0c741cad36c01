"""The `encoder` extractor on the real model: what it finds, what it leaves, what it says is missing."""

from __future__ import annotations

import datetime as dt
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from smartmem.errors import ConfigError, MissingModel
from smartmem.memory.extract import Extraction, create_extractor
from smartmem.memory.extract.encoder import TAGS, WINDOW, likeliest
from smartmem.memory.extract.tagger import PACKAGED
from smartmem.memory.facts import Message
from smartmem.rag.head import BASE
from smartmem.rag.models import fetch
from tests.support.data import list_hashes

SAID_AT = dt.datetime(2026, 3, 10, 9, 30, tzinfo=dt.UTC)


@pytest.fixture(scope="module", autouse=True)
def _model(fetched_models: None) -> None:
    fetch(BASE)


def extract(text: str, **options: object) -> Extraction:
    message = Message(user_id=1, source_text=text, occurred_at=SAID_AT)
    return create_extractor({"name": "encoder", **options}).extract(message)


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        ("By the way, I work as a nurse in Leeds.", "fact", "I work as a nurse in Leeds"),
        ("你好，我在成都开了一家奶茶店。", "fact", "我在成都开了一家奶茶店"),
        ("I can't eat shellfish, so what can I cook tonight?", "constraint", "I can't eat shellfish"),
        ("Remember: my spare key is under the blue pot.", "fact", "my spare key is under the blue pot"),
    ],
)
def test_a_fact_is_found_with_its_type_and_place(text: str, kind: str, said: str) -> None:
    (fact,) = extract(text).facts
    assert (fact.memory_type, fact.content) == (kind, said)
    assert fact.span is not None
    assert text[slice(*fact.span)] == said


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n ",
        "🎉🎉",
        "How long do red lentils need?",
        "谢谢，太好了！",
        "Translate this: I live in Rome.",
    ],
)
def test_what_says_nothing_of_the_user_yields_nothing(text: str) -> None:
    assert extract(text).facts == ()


def test_a_long_message_is_read_to_its_end() -> None:
    text = "The weather is grey. " * (5 * WINDOW // 20) + "I live in Leeds."
    (fact,) = extract(text).facts
    assert fact.content == "I live in Leeds"


def test_threads_get_the_same_answers() -> None:
    made = create_extractor("encoder")
    texts = ["I live in Leeds.", "我住在苏州。", "Thanks!", "I can't stand olives."] * 5
    messages = [Message(user_id=1, source_text=text, occurred_at=SAID_AT) for text in texts]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(made.extract, messages)) == [made.extract(message) for message in messages]


def test_a_stretch_begins_goes_on_and_never_touches_another_of_its_kind() -> None:
    sure = np.full((4, len(TAGS)), 0.01)
    for row, tag in enumerate(["I-f", "B-f", "B-f", "B-p"]):  # no allowed sequence
        sure[row, TAGS.index(tag)] = 0.9
    sure[1:3, TAGS.index("I-f")] = 0.5
    sure[0, TAGS.index("B-f")] = 0.5
    assert likeliest(sure) == ["B-f", "I-f", "I-f", "B-p"]


def test_what_is_missing_or_of_another_kind_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.safetensors.*no such file"):
        extract("", adapter="nowhere.safetensors")
    with pytest.raises(ConfigError, match="min_probability=2"):
        extract("", min_probability=2)
    with pytest.raises(ConfigError, match="models='nowhere'"):
        extract("", models="nowhere")
    monkeypatch.setenv("SMARTMEM_CACHE", str(tmp_path))
    own = tmp_path / "own.safetensors"
    own.write_bytes((PACKAGED / "encoder.safetensors").read_bytes())
    with pytest.raises(MissingModel, match="smartmem models get multilingual-e5-small"):
        extract("", adapter=str(own))


def test_the_adapter_was_tuned_on_the_lists_that_stand_in_the_repository() -> None:
    """Who changes a list tunes anew: `make encoder`."""
    card = json.loads((PACKAGED / "encoder.json").read_text("utf-8"))
    assert card["files"] == list_hashes()
    assert card["held_out"]["messages"] > 900
