"""Turns are found by what stands beside them: a question and its answer, a remark and its reply."""

from __future__ import annotations

from collections.abc import Sequence

from smartmem.errors import ConfigError
from smartmem.rag.dialogue import Sequences
from smartmem.rag.protocols import Embedder, VectorStore
from smartmem.rag.registry import register
from smartmem.rag.retrieve.around import Around, Inner, inner
from smartmem.rag.trace import stage
from smartmem.rag.types import Chunk, Hit, Query, ranked


@register("retriever", "neighbours")
class NeighboursRetriever(Around):
    """score = own + `weight` x (sum of the scores of the turns up to `radius` away in the same session).

    Scores are those of `base`, scaled to 0 … 1 over its first `depth` hits; a turn that base did not find has 0 of its
    own and can still come in through its neighbours.
    """

    def __init__(
        self,
        base: Inner = "hybrid",
        weight: float = 0.2,
        radius: int = 1,
        depth: int = 200,
        embedder: Embedder | None = None,
        store: VectorStore | None = None,
        token_cache: str | None = None,
    ) -> None:
        if weight < 0 or radius < 1:
            raise ConfigError(f"retriever 'neighbours': weight = {weight}, radius = {radius}; needs >= 0 and >= 1")
        self._sequences = Sequences()
        self.base = inner(base, embedder, store, token_cache)
        self._weight, self._radius, self._depth = weight, radius, depth

    def index(self, chunks: Sequence[Chunk]) -> None:
        super().index(chunks)
        self._sequences.add(chunks)

    def restore(self, chunks: Sequence[Chunk]) -> None:
        super().restore(chunks)
        self._sequences.add(chunks)

    def delete(self, ids: Sequence[str]) -> None:
        super().delete(ids)
        self._sequences.remove(ids)

    def retrieve(self, query: Query, k: int) -> list[Hit]:
        hits = self.base.retrieve(query, max(k, self._depth))
        with stage("neighbours") as out:
            found = out.hits = self._spread(query, hits)[:k]
        return found

    def _spread(self, query: Query, hits: Sequence[Hit]) -> list[Hit]:
        if not hits:
            return []
        low, high = hits[-1].score, hits[0].score
        own = {h.chunk.id: (h.score - low) / (high - low) if high > low else 1.0 for h in hits}
        known = {h.chunk.id: h for h in hits}
        lent: dict[str, float] = {}
        for hit in hits:
            for offset in (o for r in range(1, self._radius + 1) for o in (-r, r)):
                beside = self._sequences.beside(hit.chunk, offset)
                # The filter holds for turns that come in this way too.
                if beside is None or not (beside.id in known or query.filter.matches(beside.metadata)):
                    continue
                known.setdefault(beside.id, Hit(beside, 0.0))
                lent[beside.id] = lent.get(beside.id, 0.0) + own[hit.chunk.id]
        return ranked(
            [
                hit.with_score(own.get(id, 0.0) + self._weight * lent.get(id, 0.0), neighbours=lent.get(id, 0.0))
                for id, hit in known.items()
            ]
        )
