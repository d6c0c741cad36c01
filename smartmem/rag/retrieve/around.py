"""Retrievers that ask another one and change its answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from smartmem.rag.protocols import Embedder, Retriever, VectorStore
from smartmem.rag.registry import create
from smartmem.rag.types import Chunk

Inner = str | Mapping[str, Any] | Retriever


def inner(
    given: Inner, embedder: Embedder | None, store: VectorStore | None, token_cache: str | None = None
) -> Retriever:
    """The retriever that another one asks: as it was handed in, or made with what was injected into the other."""
    if not isinstance(given, str | Mapping):
        return given
    made: Retriever = create("retriever", given, embedder=embedder, store=store, token_cache=token_cache)
    return made


class Around:
    """Keeps `base` up to date; what else has to know of the chunks overrides these and calls them first."""

    base: Retriever

    def index(self, chunks: Sequence[Chunk]) -> None:
        self.base.index(chunks)

    def restore(self, chunks: Sequence[Chunk]) -> None:
        self.base.restore(chunks)

    def delete(self, ids: Sequence[str]) -> None:
        self.base.delete(ids)
