"""Chunkers held against gold in characters of the transcript."""

from __future__ import annotations

import pytest

from smartmem.chat.importers import Conversation, Session, Turn
from smartmem.errors import Unmeasurable
from smartmem.evaluation.chunking import gold_spans, measure_chunkers, spans_of
from smartmem.evaluation.datasets import Dataset, EvalQuery
from smartmem.evaluation.datasets.records import SpanRef
from smartmem.evaluation.documents import build_corpus
from smartmem.rag.registry import create

TEXTS = ("Hello there. ", "I keep bees. The hive stands on the roof.", "我对花生过敏。明天见！")


def dataset(*queries: EvalQuery) -> Dataset:
    turns = tuple(Turn(id=f"t{i}", role="user", speaker="Ann", text=text) for i, text in enumerate(TEXTS))
    talk = Conversation(id="c", user_id=1, sessions=(Session(id="s", turns=turns),))
    return Dataset(name="made", conversations=(talk,), queries=queries, sha256="0")


BEES = EvalQuery(
    id="q1", text="bees", conversation_id="c", relevant=("c/t1",), spans=(SpanRef(turn="c/t1", start=0, end=12),)
)
NUTS = EvalQuery(id="q2", text="花生", conversation_id="c", relevant=("c/t2",))
HELLO = EvalQuery(id="q3", text="hello", conversation_id="c", relevant=("c/t0",))
NOTHING = EvalQuery(id="q4", text="cats", conversation_id="c")


def test_gold_is_what_the_transcript_says() -> None:
    data = dataset(BEES, NUTS, HELLO, NOTHING)
    corpus = build_corpus(data, "session")
    (document,) = corpus.documents
    said = {
        query: [document.text[start:end] for start, end in spans]
        for query, gold in gold_spans(data, corpus).items()
        for spans in gold.values()
    }
    assert said == {"q1": ["I keep bees."], "q2": ["我对花生过敏。明天见！"], "q3": ["Hello there."]}


def test_turns_bring_back_all_of_it_and_tiny_pieces_cut_it() -> None:
    pieces = {"turn": "turn", "tiny": {"name": "fixed", "size": 5, "overlap": 0}}
    frame = measure_chunkers(dataset(BEES, NUTS, NOTHING), pieces)
    turn, tiny = (frame[frame["chunker"] == name] for name in pieces)
    assert list(turn["query_id"]) == ["q1", "q2"]
    assert list(turn["recall"]) == [1.0, 1.0]
    assert list(turn["cut"]) == [0.0, 0.0]
    assert list(tiny["cut"]) == [1.0, 1.0]
    assert turn["precision_omega"].iloc[1] == 1.0


def test_nobody_reads_more_than_the_budget() -> None:
    frame = measure_chunkers(dataset(BEES), {"turn": "turn"}, budget=6)
    assert list(frame["characters"]) == [6]
    assert frame["recall"].iloc[0] == pytest.approx(6 / 12)


def test_all_spans_of_a_chunker_by_document() -> None:
    corpus = build_corpus(dataset(BEES), "session")
    (spans,) = spans_of(create("chunker", "turn").chunk(corpus.documents[0])).values()
    assert [corpus.documents[0].text[a:b] for a, b in spans] == [text.strip() for text in TEXTS]


def test_questions_without_gold_measure_nothing() -> None:
    with pytest.raises(Unmeasurable, match="made"):
        measure_chunkers(dataset(NOTHING), {"turn": "turn"})
