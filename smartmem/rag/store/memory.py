"""The exact store: float32 arrays in memory, one per user, and optionally a SQLite file that keeps them."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from smartmem.errors import ConfigError, DimensionMismatch
from smartmem.rag.protocols import Vectors
from smartmem.rag.registry import register
from smartmem.rag.rows import Rows, field_of
from smartmem.rag.store.chunkfile import ChunkFile
from smartmem.rag.store.locks import SharedLock
from smartmem.rag.types import Chunk, Condition, Filter, Hit, ranked
from smartmem.types import Scalar

# BLAS rounds equal rows differently by their place in the matrix; among candidates this close the order is decided
# by sums in float64. The error of a float32 dot product of unit vectors is below 1e-6 for up to 4,096 dimensions.
_ROUNDING = 2e-6
_FIRST_CAPACITY = 64
_ONE_THREAD_ROWS = 8_192
_Key = tuple[bool, bool, Scalar] | None


class _Partition:
    """The vectors of one user: a contiguous array that doubles when it is full, and its rows."""

    def __init__(self, dim: int) -> None:
        self.rows = Rows()
        self._vectors: Vectors = np.empty((_FIRST_CAPACITY, dim), dtype=np.float32)

    def put(self, chunk: Chunk, vector: Vectors) -> None:
        row = self.rows.put(chunk)
        if row == len(self._vectors):
            grown = np.empty((2 * row, self._vectors.shape[1]), dtype=np.float32)
            grown[:row] = self._vectors
            self._vectors = grown
        self._vectors[row] = vector

    def drop(self, id: str) -> None:
        moved = self.rows.drop(id)
        if moved and moved[0] != moved[1]:
            self._vectors[moved[0]] = self._vectors[moved[1]]

    def search(self, vector: Vectors, k: int, filter: Filter) -> list[Hit]:
        """Exact, ordered by (-score, id); scores in float64."""
        matrix = self._vectors[: len(self.rows)]
        selected = self.rows.select(filter)
        if selected is None:
            scores = _product(matrix, vector)
        elif len(selected) * 4 < len(matrix):
            scores = _product(matrix[selected], vector)  # gathering few rows is cheaper than scoring all
        else:
            scores = _product(matrix, vector)[selected]
        if not len(scores):
            return []
        near: NDArray[np.intp]
        if k < len(scores):
            kth = np.partition(scores, len(scores) - k)[len(scores) - k]
            near = np.flatnonzero(scores >= kth - _ROUNDING)
        else:
            near = np.arange(len(scores))
        if selected is not None:
            near = selected[near]
        exact = np.vecdot(matrix[near].astype(np.float64), vector.astype(np.float64))
        return ranked([Hit(self.rows.chunks[i], s) for i, s in zip(near.tolist(), exact.tolist(), strict=True)], k)


@register("store", "memory")
class MemoryStore:
    """Exact search by one matrix-vector product. Thread-safe: searches run side by side, a write waits for them.

    `path`: a SQLite file; writes are durable when they return, and several processes may share it: each sees the
    others' writes at its next call. `partition`: the metadata field that splits the arrays, so that a search filtered
    by it touches nobody else's vectors.
    """

    def __init__(self, dim: int, path: str | None = None, partition: str = "user_id") -> None:
        if dim < 1:
            raise ConfigError(f"memory store: dim = {dim}; use the embedder's")
        self.dim = dim
        self._field = partition
        self._partitions: dict[_Key, _Partition] = {}
        self._home: dict[str, _Key] = {}
        self._lock = SharedLock()
        self._file_lock = threading.Lock()  # one connection; taken after `_lock`, never before it
        self._file = ChunkFile(Path(path).expanduser(), dim) if path else None
        self._seen, self._version = 0, -1
        self._closed = False
        if self._file:
            with self._lock.alone(), self._file_lock:
                self._catch_up(self._file)

    def upsert(self, chunks: Sequence[Chunk], vectors: Vectors) -> None:
        if vectors.shape != (len(chunks), self.dim):
            raise DimensionMismatch(
                f"memory store: {len(chunks)} chunks of {self.dim} dimensions expected, got an array {vectors.shape}; "
                "use the embedder that this store was made for"
            )
        if not chunks:
            return
        with self._lock.alone(), self._file_lock:
            if self._file and not self._is_next(self._file.upsert(chunks, vectors)):
                self._catch_up(self._file)  # brings these rows in, after what others wrote before them
            else:
                for chunk, vector in zip(chunks, vectors, strict=True):
                    self._put(chunk, vector)

    def search(self, vector: Vectors, k: int, filter: Filter) -> list[Hit]:
        if vector.shape != (self.dim,):
            raise DimensionMismatch(f"memory store: the query has shape {vector.shape}, expected ({self.dim},)")
        if k < 1:
            return []
        flat = np.ascontiguousarray(vector, dtype=np.float32)
        self._refresh()
        with self._lock.shared():
            partitions, rest = self._scope(filter)
            found = [hit for part in partitions for hit in part.search(flat, k, rest)]
        return ranked(found, k) if len(partitions) > 1 else found

    def get(self, ids: Sequence[str]) -> list[Chunk]:
        self._refresh()
        with self._lock.shared():
            return [self._chunk(id) for id in ids if id in self._home]

    def delete(self, ids: Sequence[str]) -> None:
        if not ids:
            return
        with self._lock.alone(), self._file_lock:
            if self._file and not self._is_next(self._file.delete(ids)):
                self._catch_up(self._file)
            else:
                for id in ids:
                    self._drop(id)

    def count(self, filter: Filter) -> int:
        self._refresh()
        with self._lock.shared():
            partitions, rest = self._scope(filter)
            chosen = [(part, part.rows.select(rest)) for part in partitions]
            return sum(len(part.rows) if rows is None else len(rows) for part, rows in chosen)

    def iterate(self, filter: Filter, batch: int = 1000) -> Iterator[list[Chunk]]:
        """Over the state of the first call: later writes are not seen."""
        self._refresh()
        with self._lock.shared():
            partitions, rest = self._scope(filter)
            found: list[Chunk] = []
            for part in partitions:
                rows = part.rows.select(rest)
                found += part.rows.chunks if rows is None else [part.rows.chunks[i] for i in rows]
        found.sort(key=lambda chunk: chunk.id)
        return (found[i : i + batch] for i in range(0, len(found), batch))

    def close(self) -> None:
        if self._file and not self._closed:
            self._closed = True
            with self._lock.alone(), self._file_lock:
                self._file.close()

    def _refresh(self) -> None:
        """Take in what other processes wrote since the last call."""
        if self._file is None:
            return
        with self._file_lock:
            changed = self._file.version() != self._version
        if changed:
            with self._lock.alone(), self._file_lock:
                self._catch_up(self._file)

    def _is_next(self, seq: int) -> bool:
        """Whether our write came right after what is in memory, so that it need not be read back."""
        if seq != self._seen + 1:
            return False
        self._seen = seq
        return True

    def _catch_up(self, file: ChunkFile) -> None:
        self._version = file.version()
        self._seen, rows = file.changes(self._seen)
        for id, chunk, vector in rows:
            if chunk is None or vector is None:
                self._drop(id)
            else:
                self._put(chunk, vector)

    def _put(self, chunk: Chunk, vector: Vectors) -> None:
        key = _key(field_of(chunk, self._field))
        if self._home.get(chunk.id, key) != key:
            self._drop(chunk.id)
        self._home[chunk.id] = key
        if key not in self._partitions:
            self._partitions[key] = _Partition(self.dim)
        self._partitions[key].put(chunk, vector)

    def _drop(self, id: str) -> None:
        if id not in self._home:
            return
        key = self._home.pop(id)
        self._partitions[key].drop(id)
        if not len(self._partitions[key].rows):
            del self._partitions[key]

    def _chunk(self, id: str) -> Chunk:
        rows = self._partitions[self._home[id]].rows
        return rows.chunks[rows.row_of[id]]

    def _scope(self, filter: Filter) -> tuple[list[_Partition], Filter]:
        """The partitions that can hold hits, and the conditions that are left to test inside them."""
        on_field = [c for c in filter.conditions if c.field == self._field]
        if not on_field:
            return list(self._partitions.values()), filter
        keys: set[_Key] = set.intersection(*(self._keys(c) for c in on_field))
        rest = Filter(tuple(c for c in filter.conditions if c.field != self._field))
        return [self._partitions[key] for key in keys], rest

    def _keys(self, condition: Condition) -> set[_Key]:
        if condition.op in ("eq", "in"):
            values = condition.value if isinstance(condition.value, tuple) else (condition.value,)
            return {key for key in map(_key, values) if key in self._partitions}
        return {k for k in self._partitions if k is not None and condition.matches({condition.field: k[2]})}


def _product(matrix: Vectors, vector: Vectors) -> Vectors:
    """All dot products. BLAS's threads are kept out of small ones: on busy cores they wait for each other longer than
    the work takes (one user's recall under load took 60 ms instead of 125). Beyond, two cores are worth the wait: twice
    as fast when idle."""
    return np.vecdot(matrix, vector) if len(matrix) <= _ONE_THREAD_ROWS else matrix @ vector


def _key(value: Scalar | None) -> _Key:
    return None if value is None else (isinstance(value, str), isinstance(value, bool), value)
