"""No reranking."""

from __future__ import annotations

from collections.abc import Sequence

from smartmem.rag.registry import register
from smartmem.rag.types import Hit, Query


@register("reranker", "none")
class NoReranker:
    """Keeps the retriever's order and scores."""

    def rerank(self, query: Query, hits: Sequence[Hit], k: int) -> list[Hit]:
        return list(hits[: max(k, 0)])
