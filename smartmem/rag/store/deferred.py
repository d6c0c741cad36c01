"""A store that is opened when it is first asked something, and asked again later when that fails."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from smartmem.errors import StoreUnavailable
from smartmem.rag.protocols import Vectors, VectorStore
from smartmem.rag.types import Chunk, Filter, Hit

RETRY_S = 5.0


class DeferredStore:
    """Opens `make()` on first use, so that a process starts, writes facts and recalls from SQL while its store is away.

    A failed opening raises its `StoreUnavailable` from every call for `retry_s` seconds, without another try: many
    recalls must not each wait for a server's time-out. Other errors (a wrong option, another dimension) are raised
    each time. Thread-safe.
    """

    def __init__(self, make: Callable[[], VectorStore], dim: int, retry_s: float = RETRY_S) -> None:
        self.dim = dim
        self._make, self._retry_s = make, retry_s
        self._lock = threading.Lock()
        self._store: VectorStore | None = None
        self._failed: tuple[float, str] | None = None

    def try_open(self) -> None:
        """Open it now if it can be. Raises for what waiting does not mend: a wrong option, a missing extra."""
        with contextlib.suppress(StoreUnavailable):
            self._opened()

    def upsert(self, chunks: Sequence[Chunk], vectors: Vectors) -> None:
        self._opened().upsert(chunks, vectors)

    def search(self, vector: Vectors, k: int, filter: Filter) -> list[Hit]:
        return self._opened().search(vector, k, filter)

    def get(self, ids: Sequence[str]) -> list[Chunk]:
        return self._opened().get(ids)

    def delete(self, ids: Sequence[str]) -> None:
        self._opened().delete(ids)

    def count(self, filter: Filter) -> int:
        return self._opened().count(filter)

    def iterate(self, filter: Filter, batch: int = 1000) -> Iterator[list[Chunk]]:
        return self._opened().iterate(filter, batch)

    def close(self) -> None:
        with self._lock:
            if self._store is not None:
                self._store.close()

    def _opened(self) -> VectorStore:
        if self._store is not None:
            return self._store
        with self._lock:
            if self._store is None:
                self._store = self._open()
            return self._store

    def _open(self) -> VectorStore:
        if self._failed is not None and time.monotonic() - self._failed[0] < self._retry_s:
            raise StoreUnavailable(self._failed[1])
        try:
            made = self._make()
        except StoreUnavailable as error:
            self._failed = (time.monotonic(), str(error))
            raise
        self._failed = None
        return made
