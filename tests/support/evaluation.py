"""A small suite that runs in a second, and components that misbehave on purpose."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from smartmem.errors import TransientModelError
from smartmem.evaluation.suite import Suite, make_suite
from smartmem.rag.registry import create, register
from smartmem.rag.types import Chunk, Hit, Query


@register("retriever", "test-flaky")
class FlakyRetriever:
    """BM25 that fails on every query whose text holds `word`."""

    def __init__(self, word: str = "the") -> None:
        self._inner = create("retriever", "bm25")
        self._word = word

    def index(self, chunks: Sequence[Chunk]) -> None:
        self._inner.index(chunks)

    def retrieve(self, query: Query, k: int) -> list[Hit]:
        if self._word in query.text.split():
            raise TransientModelError("the model took too long")
        found: list[Hit] = self._inner.retrieve(query, k)
        return found


@register("reranker", "test-backwards")
class BackwardsReranker:
    """Turns the order around."""

    calls = 0

    def rerank(self, query: Query, hits: Sequence[Hit], k: int) -> list[Hit]:
        type(self).calls += 1
        return [hit.with_score(float(place)) for place, hit in enumerate(hits)][::-1][:k]


def small_suite(cache: Path, **changes: Any) -> Suite:
    """mock and BM25 on data/tiny."""
    values: dict[str, Any] = {
        "name": "small",
        "baseline": "bm25",
        "metrics": ["nDCG@10", "recall@5", "session:recall_any@2"],
        "k": 20,
        "resamples": 200,
        "latency_queries": 3,
        "cache": str(cache),
        "datasets": [{"name": "smartmem-tiny"}],
        "arms": [
            {"name": "mock", "embedder": {"name": "mock", "dim": 16}, "retriever": "dense"},
            {"name": "bm25", "retriever": "bm25"},
        ],
    }
    return make_suite(values | changes)
