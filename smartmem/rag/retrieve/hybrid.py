"""Several retrievers, one answer."""

from __future__ import annotations

from collections.abc import Sequence

from smartmem.errors import ConfigError
from smartmem.rag.protocols import Embedder, Retriever, VectorStore
from smartmem.rag.registry import register
from smartmem.rag.retrieve.around import Inner, inner
from smartmem.rag.retrieve.fuse import Method, check_method, fuse
from smartmem.rag.trace import stage
from smartmem.rag.types import Chunk, Hit, Query

_PARTS: tuple[str, ...] = ("bm25", "dense")


@register("retriever", "hybrid")
class HybridRetriever:
    """The first `depth` hits of each part, fused (see `fuse`). BM25 finds the rare word, vectors the other wording.

    A dense part whose model does not read the question's language is left out while another part remains: an English
    model's order of Chinese turns is noise, and fused in it pulls the answer below what BM25 alone gives.
    """

    def __init__(
        self,
        parts: Sequence[Inner] = _PARTS,
        weights: Sequence[float] | None = None,
        method: Method = "zscore",
        depth: int = 200,
        embedder: Embedder | None = None,
        store: VectorStore | None = None,
        token_cache: str | None = None,
    ) -> None:
        check_method("retriever 'hybrid'", method)
        self._weights = [1.0] * len(parts) if weights is None else list(weights)
        if not parts or len(self._weights) != len(parts):
            raise ConfigError(f"retriever 'hybrid': {len(parts)} parts and {len(self._weights)} weights; name one each")
        self.parts = [inner(part, embedder, store, token_cache) for part in parts]
        self._method: Method = method
        self._depth = depth

    def index(self, chunks: Sequence[Chunk]) -> None:
        for part in self.parts:
            part.index(chunks)

    def restore(self, chunks: Sequence[Chunk]) -> None:
        for part in self.parts:
            part.restore(chunks)

    def delete(self, ids: Sequence[str]) -> None:
        for part in self.parts:
            part.delete(ids)

    def retrieve(self, query: Query, k: int) -> list[Hit]:
        depth = max(k, self._depth)
        asked = [(p, w) for p, w in zip(self.parts, self._weights, strict=True) if _reads(p, query.text)]
        asked = asked or list(zip(self.parts, self._weights, strict=True))
        lists = [part.retrieve(query, depth) for part, _ in asked]
        with stage("fuse") as out:
            hits = out.hits = fuse(lists, [weight for _, weight in asked], self._method, depth)[:k]
            if len(asked) < len(self.parts):
                out.note = f"{len(self.parts) - len(asked)} dense part(s) left out: not the model's language"
        return hits


def _reads(part: Retriever, text: str) -> bool:
    understands = getattr(part, "understands", None)
    return understands is None or bool(understands(text))
