"""One suite for every chunker."""

from __future__ import annotations

import datetime as dt
import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smartmem.errors import ConfigError
from smartmem.rag.protocols import Chunker
from smartmem.rag.registry import create, spec_of
from smartmem.rag.types import Document
from tests.support.registered import shipped

SPECS: dict[str, dict[str, Any]] = {
    "chonkie": {"name": "chonkie", "size": 40},
    "semchunk": {"name": "semchunk", "size": 40, "overlap": 10},
    "fixed": {"name": "fixed", "size": 40, "overlap": 10},
    "sentence": {"name": "sentence", "size": 40, "overlap": 15},
    "recursive": {"name": "recursive", "size": 40},
    "token": {"name": "token", "size": 16, "overlap": 4},
    "turn": {"name": "turn"},
    "window": {"name": "window", "size": 2},
    "semantic": {"name": "semantic", "size": 120, "embedder": "mock"},
}
ZH = "我今天去了颐和园。天气很好！你想一起去吗？他说：“下次吧。”然后我们就回家了，路上买了三斤苹果。"
EN = 'I moved to Berlin in May 2023. Dr. Smith said "Wait!" He paid 3.14 euros, e.g. for tea. Is it far? Not at all…'
CRLF = "Ann: hello there\r\nBob: hi! how are you?\r\n\r\nAnn: fine, thanks\r\nand you?\r\n"
EMOJI = "Ann: 👨‍👩‍👧‍👦 family trip 🇨🇳🇩🇪 next week! é́́ accents 👍🏽👍🏽👍🏽\nBob: 好的👌🏻我来"
TEXTS = {"en": EN * 5, "zh": ZH * 5, "crlf": CRLF * 4, "emoji": EMOJI * 4, "mixed": EN + ZH + CRLF + EMOJI, "one": "x"}


@pytest.fixture(scope="module", params=sorted(SPECS))
def chunker(request: pytest.FixtureRequest, fetched_models: None) -> Chunker:
    made: Chunker = create("chunker", SPECS[request.param])
    return made


def test_every_chunker_is_held_to_this() -> None:
    assert sorted(SPECS) == shipped("chunker")


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_offsets_are_exact_and_nothing_is_lost(chunker: Chunker, text: str) -> None:
    document = Document(id="d", text=text, metadata={"user_id": 1})
    chunks = chunker.chunk(document)
    assert chunks
    for order, chunk in enumerate(chunks):
        assert text[chunk.start : chunk.end] == chunk.text
        assert chunk.text.strip() == chunk.text != ""
        assert (chunk.order, chunk.document_id, chunk.metadata["user_id"]) == (order, "d", 1)
    assert len({chunk.id for chunk in chunks}) == len(chunks)
    assert [c.start for c in chunks] == sorted(c.start for c in chunks)
    covered = {i for c in chunks for i in range(c.start, c.end)}
    left = "".join(text[i] for i in range(len(text)) if i not in covered)
    assert left.replace("Ann:", "").replace("Bob:", "").strip() == "" or _only_speakers(left)


def _only_speakers(left: str) -> bool:
    """What `turn` leaves out: names and white space."""
    return all(
        part.strip(" :") in ("", "Ann", "Bob") for part in left.replace("Ann", "\n").replace("Bob", "\n").split("\n")
    )


@pytest.mark.parametrize("text", ["", " ", "\n\r\n\t", "　"])
def test_blank_documents_give_nothing(chunker: Chunker, text: str) -> None:
    assert chunker.chunk(Document(id="d", text=text)) == []


def test_the_same_document_gives_the_same_chunks(chunker: Chunker) -> None:
    document = Document(id="d", text=TEXTS["mixed"], created_at=dt.datetime(2024, 1, 2, tzinfo=dt.UTC))
    assert chunker.chunk(document) == chunker.chunk(document)


def test_a_huge_text_without_any_border(chunker: Chunker) -> None:
    text = "字" * 20_000
    chunks = chunker.chunk(Document(id="d", text=text))
    assert all(text[c.start : c.end] == c.text for c in chunks)
    assert {i for c in chunks for i in range(c.start, c.end)} == set(range(len(text)))


@settings(max_examples=40, deadline=None)
@given(text=st.text(alphabet=st.sampled_from("ab .。\n\r:：!？ 👨‍👩好é"), max_size=300))
def test_offsets_hold_for_any_text(text: str) -> None:
    for name in ("fixed", "sentence", "recursive", "turn", "window", "semantic", "chonkie", "semchunk"):
        for chunk in create("chunker", SPECS[name]).chunk(Document(id="d", text=text)):
            assert text[chunk.start : chunk.end] == chunk.text
            assert chunk.text.strip()


@pytest.mark.parametrize("name", ["fixed", "sentence", "recursive", "token"])
def test_sizes_hold(name: str, fetched_models: None) -> None:
    for text in (TEXTS["zh"], TEXTS["en"]):
        chunks = create("chunker", {**SPECS[name], "overlap": 0}).chunk(Document(id="d", text=text))
        most = 40 if name != "token" else 400
        assert all(len(chunk.text) <= most for chunk in chunks)
        assert all(a.end <= b.start for a, b in itertools.pairwise(chunks))


@pytest.mark.parametrize("name", ["fixed", "sentence", "recursive", "token"])
def test_overlap_must_be_smaller_than_size(name: str) -> None:
    with pytest.raises(ConfigError, match="overlap"):
        create("chunker", {"name": name, "size": 10, "overlap": 10})


def test_fixed_never_cuts_a_grapheme_cluster() -> None:
    text = "👨‍👩‍👧‍👦" * 30
    chunks = create("chunker", {"name": "fixed", "size": 10, "overlap": 0}).chunk(Document(id="d", text=text))
    assert "".join(c.text for c in chunks) == text
    assert {len(c.text) % 7 for c in chunks} == {0}


def test_sentences_of_both_languages() -> None:
    chunker = create("chunker", {"name": "sentence", "size": 22})
    zh = [c.text for c in chunker.chunk(Document(id="d", text="我今天去了颐和园看花。他说：“下次一起去吧！”好的。"))]
    assert zh == ["我今天去了颐和园看花。", "他说：“下次一起去吧！”好的。"]
    wider = create("chunker", {"name": "sentence", "size": 30})
    en = [c.text for c in wider.chunk(Document(id="d", text="Dr. Who paid 3.14 euros. Then he left."))]
    assert en == ["Dr. Who paid 3.14 euros.", "Then he left."]


def test_turn_reads_both_shapes_of_a_dialogue() -> None:
    chunker = create("chunker", "turn")
    session = Document(
        id="s1", text="Ann: hi\nBob: 你好：世界\nsecond line", metadata={"date": "8 May, 2023", "user_id": 3}
    )
    first, second = chunker.chunk(session)
    assert (first.id, first.text, first.metadata["speaker"], first.index_text) == (
        "s1#0",
        "hi",
        "Ann",
        "8 May, 2023\nAnn: hi",
    )
    assert (second.text, second.metadata["turn"], second.metadata["session_id"]) == ("你好：世界\nsecond line", 1, "s1")
    turn = Document(id="D1:3", text=" I went home. ", metadata={"speaker": "Ann", "session_id": "s1", "turn": 2})
    (only,) = chunker.chunk(turn)
    assert (only.id, only.text, only.start, only.end, only.index_text) == (
        "D1:3",
        "I went home.",
        1,
        13,
        "Ann: I went home.",
    )
    bare = create("chunker", {"name": "turn", "speaker": False, "date": False})
    assert bare.chunk(session)[0].searchable == "hi"


def test_window_slides_over_turns() -> None:
    text = "A: one\nB: two\nC: three\nD: four"
    chunks = create("chunker", {"name": "window", "size": 3, "step": 2}).chunk(Document(id="d", text=text))
    assert [c.text for c in chunks] == ["A: one\nB: two\nC: three", "B: two\nC: three\nD: four"]


def test_title_and_date_are_indexed_with_a_piece_but_not_part_of_it() -> None:
    document = Document(id="d", text="Short text.", title="A page", created_at=dt.datetime(2024, 1, 2, tzinfo=dt.UTC))
    (chunk,) = create("chunker", "fixed").chunk(document)
    assert (chunk.text, chunk.searchable) == ("Short text.", "A page\n2024-01-02\nShort text.")


def test_the_specification_makes_the_same_chunker(chunker: Chunker) -> None:
    document = Document(id="d", text=TEXTS["mixed"])
    assert create("chunker", spec_of(chunker)).chunk(document) == chunker.chunk(document)
