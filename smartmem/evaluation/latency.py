"""How long one query takes, asked alone, with nothing of its path cached."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

from smartmem.evaluation.cache import key_of
from smartmem.evaluation.inputs import machine
from smartmem.evaluation.usage import CountedEmbedder, tokens_read
from smartmem.rag.embed.cache import CachedEmbedder

if TYPE_CHECKING:
    from smartmem.evaluation.cell import Cell

_WARM_UP = 3


def time_queries(cell: Cell) -> tuple[list[float], bool]:
    """Milliseconds of a sample of queries, one by one: embedding, search, rerank; and whether an earlier run on this
    machine timed them."""
    suite, arm = cell.suite, cell.arm
    wanted = min(suite.latency_queries, len(cell.queries))
    if not wanted:
        return [], False
    reranking = [cell.reranker_key, arm.rerank_top] if arm.reranker else []
    key = key_of("latency", cell.index_key.hex(), reranking, suite.k, wanted, suite.seed, machine())
    cached = cell.cache.get(key)
    if cached is not None:
        return cached["ms"], True
    bare, kept = cell.bare_embedder, cell.embedder
    retriever = cell.retriever(_QueriesUncached(CountedEmbedder(bare, cell.usage), kept) if bare and kept else None)
    retriever.index(cell.chunks)
    reranker = cell.uncached_reranker()
    picks = random.Random(suite.seed).sample(cell.queries, min(len(cell.queries), wanted + _WARM_UP))  # noqa: S311 - a sample, no secret
    times = []
    for query in picks:
        asked = cell.query_of(query)
        started = time.perf_counter()
        hits = retriever.retrieve(asked, suite.k)
        if reranker is not None:
            before, head = tokens_read(reranker), hits[: arm.rerank_top]
            reranker.rerank(asked, head, arm.rerank_top)
            cell.usage.add(len(head), before, tokens_read(reranker))
        times.append((time.perf_counter() - started) * 1e3)
    cell.cache.put(key, "latency", {"ms": times[-wanted:]})
    return times[-wanted:], False


class _QueriesUncached:
    """Documents from the cache, queries from the model: what a live system has."""

    def __init__(self, bare: CountedEmbedder, cached: CachedEmbedder) -> None:
        self._bare, self._cached = bare, cached
        self.dim, self.fingerprint, self.languages = bare.dim, bare.fingerprint, bare.languages
        self.embed_documents, self.embed_queries = cached.embed_documents, bare.embed_queries
