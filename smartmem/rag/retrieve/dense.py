"""Retrieval by vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from smartmem.errors import ConfigError
from smartmem.rag.protocols import Embedder, VectorStore
from smartmem.rag.registry import create, register
from smartmem.rag.trace import stage
from smartmem.rag.types import Chunk, Hit, Query

Given = str | Mapping[str, Any]


@register("retriever", "dense")
class DenseRetriever:
    """Embeds the query, asks the store. `embedder` and `store` are the pipeline's, unless named here (a second dense
    retriever inside `hybrid` needs its own). `batch`: texts embedded and written in one go."""

    def __init__(
        self,
        embedder: Given | Embedder | None = None,
        store: Given | VectorStore | None = None,
        batch: int = 512,
    ) -> None:
        if embedder is None or store is None:
            missing = "an embedder" if embedder is None else "a store"
            raise ConfigError(f"retriever 'dense' needs {missing}: name one in the pipeline's specification")
        self.embedder: Embedder = create("embedder", embedder) if isinstance(embedder, str | Mapping) else embedder
        self.store: VectorStore = (
            create("store", store, dim=self.embedder.dim) if isinstance(store, str | Mapping) else store
        )
        self._batch = batch

    def index(self, chunks: Sequence[Chunk]) -> None:
        for i in range(0, len(chunks), self._batch):
            part = chunks[i : i + self._batch]
            self.store.upsert(part, self.embedder.embed_documents([chunk.searchable for chunk in part]))

    def restore(self, chunks: Sequence[Chunk]) -> None:
        """Nothing to do: the store remembers."""

    def delete(self, ids: Sequence[str]) -> None:
        self.store.delete(ids)

    def retrieve(self, query: Query, k: int) -> list[Hit]:
        if k < 1:
            return []
        with stage("embed"):
            vector = self.embedder.embed_queries([query.text])[0]
        with stage("dense") as out:
            hits = out.hits = self.store.search(vector, k, query.filter)
        return hits
