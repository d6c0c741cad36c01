"""BM25: scores as bm25s computes them, Chinese and English terms, what windows and scopes do."""

from __future__ import annotations

import bm25s
import numpy as np
import pytest

from smartmem.errors import ConfigError
from smartmem.rag.retrieve.analyse import Analyser
from smartmem.rag.retrieve.bm25 import Bm25Retriever
from smartmem.rag.types import Chunk, Filter, Query


def chunk(id: str, text: str, **metadata: str | int) -> Chunk:
    return Chunk(id=id, document_id=id, start=0, end=len(text), text=text, order=0, metadata=metadata)


def corpus(n: int = 300) -> list[str]:
    rng = np.random.default_rng(7)
    words = [f"w{i}" for i in range(80)]
    weights = 1 / np.arange(1, 81)
    return [" ".join(rng.choice(words, size=rng.integers(1, 40), p=weights / weights.sum())) for _ in range(n)]


@pytest.mark.parametrize(("k1", "b"), [(0.9, 0.4), (1.5, 0.75), (1.2, 0.0)])
def test_scores_agree_with_bm25s(k1: float, b: float) -> None:
    texts = corpus()
    mine = Bm25Retriever(k1=k1, b=b, stemming="none", stopwords=False)
    mine.index([chunk("extra", "w1 w2 w3"), *(chunk(f"c{i:03}", text) for i, text in enumerate(texts))])
    mine.delete(["extra"])  # a removed chunk must leave no trace in the statistics
    theirs = bm25s.BM25(method="lucene", k1=k1, b=b)
    theirs.index([text.split() for text in texts], show_progress=False)
    for query in ("w0 w5 w9", "w70", "w3 w3 w79 unknown"):
        expected = theirs.get_scores(query.split())
        hits = mine.retrieve(Query(text=query), 1000)
        assert len(hits) == int((expected > 0).sum())
        got = {hit.chunk.id: hit.score for hit in hits}
        assert [got.get(f"c{i:03}", 0.0) for i in range(len(texts))] == pytest.approx(expected.tolist(), abs=1e-5)


def test_terms() -> None:
    analyse = Analyser()
    assert analyse("The dogs were RUNNING") == ["dog", "run"]
    assert analyse("我爱北京") == ["我", "爱", "北", "京", "我爱", "爱北", "北京"]
    assert analyse("买iPhone手机") == ["买", "iphon", "手", "机", "手机"]
    assert analyse("ＡＢＣ１２３") == analyse("abc123") == ["abc123"]
    assert analyse("Caroline’s café, naïve; don't") == ["carolin", "café", "naïv", "don"]
    assert analyse("nihao zhōngguó") == ["nihao", "zhōngguó"]
    assert analyse("👨‍👩‍👧 !!! …") == []
    assert Analyser(stemming="none", stopwords=False)("the dogs") == ["the", "dogs"]
    assert Analyser(cjk="bigram")("茶 绿茶") == ["茶", "绿茶"]
    assert "颐和园" in Analyser(cjk="words")("我去颐和园")


@pytest.mark.parametrize("options", [{"k1": -1}, {"b": 2}, {"idf": "x"}, {"cjk": "x"}, {"stemming": "klingon"}])
def test_options_that_cannot_be(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=str(next(iter(options.values())))):
        Bm25Retriever(**options)  # type: ignore[arg-type]


def test_scoped_idf_is_blind_to_others() -> None:
    def order(other: str, idf: str) -> list[tuple[str, float]]:
        retriever = Bm25Retriever(idf=idf)  # type: ignore[arg-type]
        retriever.index([chunk("a", "apple pie", user_id=1), chunk("b", "banana pie", user_id=1)])
        retriever.index([chunk(f"o{i}", other, user_id=2) for i in range(20)])
        hits = retriever.retrieve(Query(text="apple banana", filter=Filter.where(user_id=1)), 9)
        return [(hit.chunk.id, round(hit.score, 9)) for hit in hits]

    assert order("apple", "scope") == order("zebra", "scope")
    assert order("apple", "corpus") != order("zebra", "corpus")


def test_a_window_finds_the_answer_by_its_question() -> None:
    turns = ["How is your new puppy?", "He is great, thanks!", "The weather is bad.", "I like jazz."]
    chunks = [
        Chunk(id=f"t{i}", document_id="s", start=0, end=1, text=text, order=i, metadata={"turn": i})
        for i, text in enumerate(turns)
    ]
    plain, window = Bm25Retriever(), Bm25Retriever(window=1)
    for retriever in (plain, window):
        retriever.index(chunks)
    assert [h.chunk.id for h in plain.retrieve(Query(text="puppy"), 9)] == ["t0"]
    assert {h.chunk.id for h in window.retrieve(Query(text="puppy"), 9)} == {"t0", "t1"}


def test_many_removals_shrink_the_index() -> None:
    retriever = Bm25Retriever()
    retriever.index([chunk(f"c{i:04}", f"word{i} common") for i in range(2500)])
    retriever.delete([f"c{i:04}" for i in range(2400)])
    assert [h.chunk.id for h in retriever.retrieve(Query(text="word2450"), 5)] == ["c2450"]
    assert len(retriever.retrieve(Query(text="common"), 5000)) == 100
