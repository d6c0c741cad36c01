"""Hits that do not repeat each other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from smartmem.errors import ConfigError
from smartmem.rag.protocols import Embedder, VectorStore
from smartmem.rag.registry import register
from smartmem.rag.retrieve.around import Around, Inner, inner
from smartmem.rag.trace import stage
from smartmem.rag.types import Hit, Query


@register("retriever", "mmr")
class MmrRetriever(Around):
    """Maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998) over the first `depth` hits of `base`.

    Picks, one after another, the hit with the largest `balance` x relevance - (1 - balance) x greatest cosine to what
    was picked. Relevance is base's score scaled to 0 … 1. A later pick's sum can be larger than an earlier one's, so
    scores are the running minimum of the sums, made strictly falling: sorting by (-score, id) keeps the picks' order.
    """

    def __init__(
        self,
        base: Inner = "dense",
        balance: float = 0.7,
        depth: int = 50,
        embedder: Embedder | None = None,
        store: VectorStore | None = None,
        token_cache: str | None = None,
    ) -> None:
        if embedder is None:
            raise ConfigError("retriever 'mmr' needs an embedder: name one in the pipeline's specification")
        if not 0 <= balance <= 1:
            raise ConfigError(f"retriever 'mmr': balance = {balance}; use 0 (variety) to 1 (relevance)")
        self.base = inner(base, embedder, store, token_cache)
        self._embedder, self._balance, self._depth = embedder, balance, depth

    def retrieve(self, query: Query, k: int) -> list[Hit]:
        hits = self.base.retrieve(query, max(k, self._depth))
        with stage("mmr") as out:
            found = out.hits = self._pick(hits, k)
        return found

    def _pick(self, hits: Sequence[Hit], k: int) -> list[Hit]:
        if not hits or k < 1:
            return []
        vectors = self._embedder.embed_documents([hit.chunk.searchable for hit in hits])
        low, high = hits[-1].score, hits[0].score
        relevance = np.array([(h.score - low) / (high - low) if high > low else 1.0 for h in hits])
        nearest = np.zeros(len(hits))
        left = np.ones(len(hits), dtype=np.bool_)
        picked: list[Hit] = []
        floor = np.inf
        while left.any() and len(picked) < k:
            sums = np.where(left, self._balance * relevance - (1 - self._balance) * nearest, -np.inf)
            best = int(np.argmax(sums))  # the first of equals: base's order, so (-score, id)
            floor = min(floor, float(sums[best]))
            picked.append(hits[best].with_score(floor, relevance=float(relevance[best]), nearest=float(nearest[best])))
            left[best] = False
            nearest = np.maximum(nearest, vectors @ vectors[best])
        # Where the running minimum made scores equal, ids must not turn the order of picking around.
        for i in range(1, len(picked)):
            if picked[i].score >= picked[i - 1].score:
                picked[i] = picked[i].with_score(float(np.nextafter(picked[i - 1].score, -np.inf)))
        return picked
