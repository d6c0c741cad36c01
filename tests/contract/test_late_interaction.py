"""Late interaction with its real model: what it scores, what it keeps, and where it stays out."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from smartmem.errors import ConfigError
from smartmem.rag.pipeline import Pipeline
from smartmem.rag.registry import create
from smartmem.rag.retrieve.tokens import TokenVectors, max_sim
from smartmem.rag.trace import tracing
from smartmem.rag.types import Chunk, Document, Query

pytestmark = pytest.mark.usefixtures("fetched_models")
MODEL = "colbert-small-en"
TEXTS = [
    "My sister moved to Lisbon in May.",
    "The weather was lovely at the weekend.",
    "Her new flat in the capital of Portugal has a balcony.",
    "I am learning the violin.",
]


def chunk(n: int, text: str) -> Chunk:
    return Chunk(id=f"c{n}", document_id=f"d{n}", start=0, end=len(text), text=text, order=n)


def test_max_sim_is_the_mean_of_each_token_s_best_match() -> None:
    vectors = TokenVectors(MODEL)
    question = vectors.query("Where does the sister live?")
    assert np.linalg.norm(question, axis=1) == pytest.approx(1, abs=1e-5)
    held = vectors.documents(TEXTS)
    exact = []
    for text in TEXTS:
        hidden = vectors._encoder.hidden("[unused1] " + text)
        unit = hidden / np.linalg.norm(hidden, axis=1, keepdims=True)
        most = 127 / (20 * 384**0.5)  # what int8 holds; this model has components that are larger in every text
        exact.append((question @ unit.clip(-most, most).T).max(axis=1).mean())
    assert max_sim(question, held) == pytest.approx(exact, abs=0.002)
    assert max_sim(question, []).shape == (0,)
    assert int(np.argmax(exact)) == 0


def test_the_marks_before_question_and_text_are_one_token_each() -> None:
    vectors = TokenVectors(MODEL)
    assert len(vectors.query("tea")) == len(vectors.documents(["tea"])[0]) == 4  # [CLS] mark tea [SEP]
    assert not np.allclose(vectors.query("tea")[2], vectors._encoder.hidden("[unused1] tea")[2])


def test_a_file_of_vectors_is_read_by_the_next_and_forgets_what_was_deleted(tmp_path: Path) -> None:
    path = str(tmp_path / "tokens.sqlite")
    first = TokenVectors(MODEL, path)
    first.prepare(TEXTS)
    made = first.documents(TEXTS)
    second = TokenVectors(MODEL, path)
    before = second._encoder.tokens_read
    assert all(np.array_equal(a, b) for a, b in zip(made, second.documents(TEXTS), strict=True))
    second.prepare(TEXTS)
    assert second._encoder.tokens_read == before, "encoded again what the file holds"

    retriever = create("retriever", {"name": "late-interaction", "base": "bm25"}, token_cache=path)
    retriever.index([chunk(n, text) for n, text in enumerate(TEXTS)])
    retriever.delete(["c1"])
    retriever.index([chunk(3, "I play the cello now.")])
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT count(*) FROM tokens").fetchone() == (3,)


def test_a_search_of_turns_opens_the_file_once(tmp_path: Path) -> None:
    spec = {"chunker": "turn", "retriever": {"name": "late-interaction", "base": "bm25"}}
    path = str(tmp_path / "tokens.sqlite")

    def opened() -> int:
        made = Pipeline.from_spec(spec, token_cache=path)
        made.ingest([Document(id="t", text=TEXTS[0])])
        assert made.retrieve("Where is the sister?").hits
        made.close()
        return sum(os.path.realpath(f"/proc/self/fd/{fd}").startswith(path) for fd in os.listdir("/proc/self/fd"))

    assert opened() == opened() == opened() > 0


def test_words_that_only_mean_the_same_come_first() -> None:
    bm25 = create("retriever", "bm25")
    late = create("retriever", {"name": "late-interaction", "base": "bm25"})
    texts = ["The sister of the house painter moved a chair.", "My sister relocated to Lisbon in May."]
    for retriever in (bm25, late):
        retriever.index([chunk(n, text) for n, text in enumerate(texts)])
    asked = Query(text="Which city has the sister moved to?")
    assert bm25.retrieve(asked, 1)[0].chunk.id == "c0"
    first = late.retrieve(asked, 1)[0]
    assert first.chunk.id == "c1"
    assert {"base", "late"} <= set(first.reasons)


def test_a_question_or_text_that_the_model_does_not_read_keeps_base_s_order() -> None:
    texts = ["我的姐姐五月搬到了里斯本。", "我在学小提琴。", "My sister plays the violin."]
    bm25 = create("retriever", "bm25")
    late = create("retriever", {"name": "late-interaction", "base": "bm25"})
    for retriever in (bm25, late):
        retriever.index([chunk(n, text) for n, text in enumerate(texts)])
    asked = Query(text="姐姐搬到哪里了？")
    with tracing() as stages:
        hits = late.retrieve(asked, 5)
    assert [(h.chunk.id, h.score) for h in hits] == [(h.chunk.id, h.score) for h in bm25.retrieve(asked, 5)]
    assert "the question is zh" in stages[-1].note
    assert late.retrieve(Query(text="Who plays the violin?"), 5)[0].chunk.id == "c2"


def test_another_kind_of_model_and_senseless_options_are_refused() -> None:
    with pytest.raises(ConfigError, match="'bge-small-en' is an embedder, not a late-interaction model"):
        TokenVectors("bge-small-en")
    for options in ({"weight": -1}, {"depth": 0}):
        with pytest.raises(ConfigError, match=r"weight = .* depth = "):
            create("retriever", {"name": "late-interaction", "base": "bm25", **options})
