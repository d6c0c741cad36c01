"""Retrieval by vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from smartmem.errors import ConfigError
from smartmem.rag.dialogue import Sequences
from smartmem.rag.embed.vectors import unit
from smartmem.rag.models import unread
from smartmem.rag.protocols import Embedder, Vectors, VectorStore
from smartmem.rag.registry import create, register
from smartmem.rag.trace import stage
from smartmem.rag.types import Chunk, Hit, Query

Given = str | Mapping[str, Any]


@register("retriever", "dense")
class DenseRetriever:
    """Embeds the query, asks the store. `embedder` and `store` are the pipeline's, unless named here (a second dense
    retriever inside `hybrid` needs its own). `batch`: texts embedded and written in one go.

    `context`: how many turns before a chunk colour its vector, which is then the unit mean of the vectors of the chunk
    alone and of the chunk behind those turns: one store, one search, and twice the embedding. A short answer ("Yes, in
    June!") is found by its question that way.
    """

    def __init__(
        self,
        embedder: Given | Embedder | None = None,
        store: Given | VectorStore | None = None,
        batch: int = 512,
        context: int = 0,
    ) -> None:
        if embedder is None or store is None:
            missing = "an embedder" if embedder is None else "a store"
            raise ConfigError(f"retriever 'dense' needs {missing}: name one in the pipeline's specification")
        self.embedder: Embedder = create("embedder", embedder) if isinstance(embedder, str | Mapping) else embedder
        self.store: VectorStore = (
            create("store", store, dim=self.embedder.dim) if isinstance(store, str | Mapping) else store
        )
        self._batch, self._context = batch, context
        self._sequences = Sequences()

    def index(self, chunks: Sequence[Chunk]) -> None:
        if self._context:
            self._sequences.add(chunks)
            chunks = [*chunks, *self._sequences.touched(chunks, self._context, 0)]
        self._write(chunks)

    def restore(self, chunks: Sequence[Chunk]) -> None:
        """The store remembers the vectors; only the order of the turns is kept here."""
        if self._context:
            self._sequences.add(chunks)

    def delete(self, ids: Sequence[str]) -> None:
        self.store.delete(ids)
        if self._context:
            self._write(self._sequences.forget(ids, self._context, 0))

    def _write(self, chunks: Sequence[Chunk]) -> None:
        for i in range(0, len(chunks), self._batch):
            part = chunks[i : i + self._batch]
            self.store.upsert(part, self._vectors(part))

    def _vectors(self, chunks: Sequence[Chunk]) -> Vectors:
        alone = self.embedder.embed_documents([chunk.searchable for chunk in chunks])
        if not self._context:
            return alone
        behind = [self._sequences.window(chunk, self._context, 0) for chunk in chunks]
        return unit(alone + self.embedder.embed_documents(behind))

    def understands(self, text: str) -> bool:
        """Whether the embedder reads the language of `text`."""
        return not unread(self.embedder.languages, text)

    def retrieve(self, query: Query, k: int) -> list[Hit]:
        if k < 1:
            return []
        with stage("embed"):
            vector = self.embedder.embed_queries([query.text])[0]
        with stage("dense") as out:
            hits = out.hits = self.store.search(vector, k, query.filter)
        return hits
