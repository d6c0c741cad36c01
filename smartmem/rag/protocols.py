"""What a component of the RAG core must do. Each implementation passes the contract suite of its protocol."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from smartmem.rag.types import Chunk, Document, Filter, Hit, Query, Retrieval
from smartmem.types import Scalar

Vectors = NDArray[np.float32]


class Chunker(Protocol):
    """Cuts a document into chunks with exact offsets; a blank document gives none."""

    def chunk(self, document: Document) -> list[Chunk]: ...


class Embedder(Protocol):
    """Turns texts into L2-normalised float32 rows (n x dim); no texts give a (0, dim) array.

    Raises `TransientModelError` when a later call may succeed, `ModelError` otherwise.
    """

    @property
    def dim(self) -> int: ...

    @property
    def fingerprint(self) -> str:
        """Changes whenever the same text would get another vector; keys every cache."""
        ...

    @property
    def languages(self) -> tuple[str, ...]:
        """Codes of the languages that it understands (`smartmem.text.language`); empty: any.

        Vectors of another language look alike whatever they say, so recall does not rank by them.
        """
        ...

    def embed_documents(self, texts: Sequence[str]) -> Vectors: ...

    def embed_queries(self, texts: Sequence[str]) -> Vectors: ...


class VectorStore(Protocol):
    """One collection of chunks with their vectors. Scores are cosine similarities (vectors are normalised).

    Filters see a chunk's metadata and, under the name `document_id`, its document.
    Raises `StoreUnavailable` when it cannot be reached or is in use, `DimensionMismatch` for foreign vectors.
    """

    @property
    def dim(self) -> int: ...

    def upsert(self, chunks: Sequence[Chunk], vectors: Vectors) -> None:
        """Insert, or replace by chunk id. Durable when it returns, for stores that live on disk or in a server."""
        ...

    def search(self, vector: Vectors, k: int, filter: Filter) -> list[Hit]:
        """The `k` nearest chunks to one vector (dim,) among those that pass, by (-score, id)."""
        ...

    def get(self, ids: Sequence[str]) -> list[Chunk]:
        """The stored chunks among `ids`, in that order; unknown ids are left out."""
        ...

    def delete(self, ids: Sequence[str]) -> None:
        """Remove by id; unknown ids are no error."""
        ...

    def count(self, filter: Filter) -> int: ...

    def iterate(self, filter: Filter, batch: int = 1000) -> Iterator[list[Chunk]]:
        """All chunks that pass, in batches, in the order of their ids."""
        ...

    def close(self) -> None:
        """Release files and connections; closing twice is no error."""
        ...


class Retriever(Protocol):
    """Finds chunks for a query among those it has indexed."""

    def index(self, chunks: Sequence[Chunk]) -> None:
        """Add chunks (replacing those of the same id): embeds, and writes to the store, where there is one."""
        ...

    def restore(self, chunks: Sequence[Chunk]) -> None:
        """Take chunks that the store already holds into what this retriever keeps in memory; writes nothing."""
        ...

    def delete(self, ids: Sequence[str]) -> None:
        """Forget chunks by id, in the store too; unknown ids are no error."""
        ...

    def retrieve(self, query: Query, k: int) -> list[Hit]:
        """At most `k` hits that pass `query.filter`, by (-score, id)."""
        ...


class Reranker(Protocol):
    """Reorders the hits of one query. Raises `ModelError` kinds; the pipeline then keeps the retriever's order."""

    def rerank(self, query: Query, hits: Sequence[Hit], k: int) -> list[Hit]: ...


@runtime_checkable
class Corpus(Protocol):
    """A pipeline behind obligatory filters. A call without one raises `ScopeError` before anything is searched."""

    @property
    def name(self) -> str: ...

    def add(self, documents: Iterable[Document]) -> int:
        """Ingest; every document's metadata must carry the obligatory field. Returns the number of chunks."""
        ...

    def search(self, text: str | Query, k: int | None = None, **scope: Scalar | Sequence[Scalar]) -> Retrieval: ...

    def delete(self, document_ids: Sequence[str], **scope: Scalar | Sequence[Scalar]) -> None: ...
