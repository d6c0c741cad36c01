"""The one pipeline: ingest (chunk → embed → upsert) and retrieve (embed → search → threshold → rerank).

pipeline = Pipeline.from_spec({
    "chunker": "turn",
    "embedder": {"name": "onnx", "model": "bge-small-en"},
    "store": {"name": "memory", "path": "vectors.db"},
    "retriever": "hybrid",
    "reranker": {"name": "cross-encoder", "candidates": 30},
    "k": 10,
})
pipeline.ingest(documents)
pipeline.retrieve("When did she move?", filter=Filter.where(user_id=1)).hits
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

from smartmem.errors import ConfigError
from smartmem.rag.dialogue import Sequences
from smartmem.rag.presets import preset
from smartmem.rag.protocols import Chunker, Embedder, Reranker, Retriever, VectorStore
from smartmem.rag.registry import create, spec_of
from smartmem.rag.trace import stage, tracing
from smartmem.rag.types import Chunk, Document, Filter, Hit, Query, Retrieval
from smartmem.telemetry import log

_KEYS = ("preset", "chunker", "embedder", "store", "retriever", "reranker", "k", "candidates", "threshold")
_LOOKUP = 500


class Pipeline:
    """Thread-safe as far as its components are; all that ship with smartmem are.

    `k`: hits in an answer. `candidates`: hits that the retriever hands to the reranker. `threshold`: retriever scores
    below it are dropped (its scale is the retriever's: cosines for `dense`).
    """

    def __init__(
        self,
        *,
        retriever: Retriever,
        chunker: Chunker,
        reranker: Reranker | None = None,
        embedder: Embedder | None = None,
        store: VectorStore | None = None,
        sequences: Sequences | None = None,
        k: int = 10,
        candidates: int = 60,
        threshold: float | None = None,
    ) -> None:
        if k < 1 or candidates < 1:
            raise ConfigError(f"pipeline: k = {k}, candidates = {candidates}; both need 1 or more")
        self.chunker, self.retriever, self.embedder, self.store = chunker, retriever, embedder, store
        self.reranker: Reranker = create("reranker", "none") if reranker is None else reranker
        self.k, self.candidates, self.threshold = k, candidates, threshold
        self._sequences = Sequences() if sequences is None else sequences
        if store is not None:
            for batch in store.iterate(Filter()):  # what an earlier process wrote
                retriever.restore(batch)
                self._sequences.add(batch)

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any], **injected: Any) -> Self:
        """Make a pipeline from names and options; `preset` fills in what is not named.

        `injected` (embedder=, store=) are live objects that take the place of a specification's; token_cache= names
        the file in which late interaction keeps its vectors.
        Raises `ConfigError` for unknown keys, `UnknownComponent` for unknown names.
        """
        unknown = sorted(set(spec) - set(_KEYS))
        if unknown:
            raise ConfigError(f"pipeline: unknown key {unknown[0]!r}; it takes: {', '.join(_KEYS)}")
        wanted = {**preset(str(spec["preset"])), **spec} if "preset" in spec else dict(spec)
        sequences = Sequences()
        embedder: Embedder | None = injected.get("embedder")
        if embedder is None and "embedder" in wanted:
            embedder = create("embedder", wanted["embedder"])
        store: VectorStore | None = injected.get("store")
        if store is None and embedder is not None:
            store = create("store", wanted.get("store", "memory"), dim=embedder.dim)
        tokens = injected.get("token_cache")
        parts = {"embedder": embedder, "store": store, "sequences": sequences, "token_cache": tokens}
        parts = {name: part for name, part in parts.items() if part is not None}
        default = "bm25" if embedder is None else "dense"
        numbers = {key: wanted[key] for key in ("k", "candidates", "threshold") if key in wanted}
        return cls(
            chunker=create("chunker", wanted.get("chunker", "turn"), **parts),
            retriever=create("retriever", wanted.get("retriever", default), **parts),
            reranker=create("reranker", wanted.get("reranker", "none"), **parts),
            embedder=embedder,
            store=store,
            sequences=sequences,
            **numbers,
        )

    def spec(self) -> dict[str, Any]:
        """The specification that makes this pipeline again, every default spelled out."""
        made: dict[str, Any] = {"chunker": spec_of(self.chunker)}
        if self.embedder is not None:
            made["embedder"] = spec_of(self.embedder)
        if self.store is not None:
            made["store"] = spec_of(self.store)
        made |= {"retriever": spec_of(self.retriever), "reranker": spec_of(self.reranker)}
        made |= {"k": self.k, "candidates": self.candidates}
        return made if self.threshold is None else {**made, "threshold": self.threshold}

    def ingest(self, documents: Iterable[Document], batch: int = 1000) -> int:
        """Chunk, embed and store; returns the number of chunks. A document ingested again replaces its old self,
        pieces that it no longer has included. Documents are worked on `batch` at a time."""
        total = 0
        waiting: list[Document] = []
        for document in documents:
            waiting.append(document)
            if len(waiting) >= batch:
                total += self._ingest(waiting)
                waiting = []
        return total + (self._ingest(waiting) if waiting else 0)

    def index(self, chunks: Sequence[Chunk]) -> None:
        """Embed and store chunks that were made elsewhere."""
        self.retriever.index(chunks)
        self._sequences.add(chunks)

    def delete(self, document_ids: Sequence[str], *, filter: Filter | None = None) -> None:
        """Forget documents (of those, the chunks that pass `filter`); unknown ids are no error."""
        scope = filter or Filter()
        self._delete_chunks([chunk.id for chunk in self._chunks_of(document_ids) if scope.matches(chunk.metadata)])

    def retrieve(
        self, query: Query | str, k: int | None = None, *, filter: Filter | None = None, trace: bool = False
    ) -> Retrieval:
        """Answer one query, which `filter` narrows further. With `trace`, `stages` say what each stage did.

        Errors of embedder and store are raised with their kind; a failing reranker leaves the retriever's order and
        a `fallback_reason`.
        """
        asked = Query(text=query) if isinstance(query, str) else query
        if filter is not None:
            asked = Query(text=asked.text, id=asked.id, filter=asked.filter & filter, at=asked.at)
        wanted = self.k if k is None else k
        started = time.perf_counter()
        if trace:
            with tracing() as stages:
                hits, reason = self._retrieve(asked, wanted)
        else:
            stages = []
            hits, reason = self._retrieve(asked, wanted)
        ms = (time.perf_counter() - started) * 1e3
        return Retrieval(query=asked, hits=tuple(hits), ms=ms, fallback_reason=reason, stages=tuple(stages))

    def close(self) -> None:
        """Release the store, and the reranker's connections where it has some."""
        close = getattr(self.reranker, "close", None)
        if close is not None:
            close()
        if self.store is not None:
            self.store.close()

    def _retrieve(self, query: Query, k: int) -> tuple[list[Hit], str | None]:
        if k < 1 or not query.text.strip():
            return [], None
        with stage("retrieve") as out:
            hits = out.hits = self.retriever.retrieve(query, max(k, self.candidates))
        if self.threshold is not None:
            with stage("threshold") as out:
                hits = out.hits = [hit for hit in hits if hit.score >= self.threshold]
        try:
            with stage("rerank") as out:
                found = out.hits = self.reranker.rerank(query, hits, k)
            return found, None
        except Exception as error:  # noqa: BLE001 - any reranker, ours or not, may fail; the reason goes to the caller
            reason = f"rerank failed, retriever's order kept: {type(error).__name__}: {error}"
            log.warning(reason, extra={"query_id": query.id})
            return list(hits[:k]), reason

    def _ingest(self, documents: Sequence[Document]) -> int:
        chunks = [chunk for document in documents for chunk in self.chunker.chunk(document)]
        kept = {chunk.id for chunk in chunks}
        old = self._chunks_of([document.id for document in documents])
        self.index(chunks)
        # After the new ones are in: a crash between the two leaves too much, which the next run removes.
        self._delete_chunks([chunk.id for chunk in old if chunk.id not in kept])
        return len(chunks)

    def _chunks_of(self, document_ids: Sequence[str]) -> list[Chunk]:
        if self.store is None:
            return self._sequences.of_documents(document_ids)
        found: list[Chunk] = []
        for i in range(0, len(document_ids), _LOOKUP):
            for batch in self.store.iterate(Filter.where(document_id=document_ids[i : i + _LOOKUP])):
                found += batch
        return found

    def _delete_chunks(self, ids: Sequence[str]) -> None:
        if ids:
            self.retriever.delete(ids)
            self._sequences.remove(ids)
