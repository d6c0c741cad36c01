"""Chunks in numbered rows, with columns that answer filters without looking at each chunk."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

from smartmem.rag.types import Chunk, Condition, Filter
from smartmem.types import Scalar

RowNumbers = NDArray[np.intp]
_Key = tuple[bool, bool, Scalar]


class Rows:
    """Rows 0 … n-1 without gaps: removing one moves the last row into its place.

    Columns (value to row numbers) are built when a filter first asks for a field and dropped by the next change.
    Not thread-safe by itself; readers may share it, since a column built twice is the same column.
    """

    def __init__(self) -> None:
        self.chunks: list[Chunk] = []
        self.row_of: dict[str, int] = {}
        self._columns: dict[str, dict[_Key, RowNumbers]] = {}

    def __len__(self) -> int:
        return len(self.chunks)

    def put(self, chunk: Chunk) -> int:
        """Add, or replace by id; returns the chunk's row."""
        self._columns = {}
        row = self.row_of.setdefault(chunk.id, len(self.chunks))
        if row == len(self.chunks):
            self.chunks.append(chunk)
        else:
            self.chunks[row] = chunk
        return row

    def drop(self, id: str) -> tuple[int, int] | None:
        """Remove by id. Returns (freed row, row that moved into it), which are equal for the last row, or None."""
        row = self.row_of.pop(id, None)
        if row is None:
            return None
        self._columns = {}
        moved = self.chunks.pop()
        last = len(self.chunks)
        if row != last:
            self.chunks[row] = moved
            self.row_of[moved.id] = row
        return row, last

    def select(self, filter: Filter) -> RowNumbers | None:
        """The rows that pass, ascending; None when all do."""
        found: RowNumbers | None = None
        for condition in filter.conditions:
            rows = self._passing(condition)
            found = rows if found is None else np.intersect1d(found, rows, assume_unique=True)
        return found

    def _passing(self, condition: Condition) -> RowNumbers:
        column = self._column(condition.field)
        if condition.op in ("eq", "in"):
            values = condition.value if isinstance(condition.value, tuple) else (condition.value,)
            parts = [column[key] for key in {_key(v) for v in values} if key in column]
        else:
            parts = [rows for key, rows in column.items() if condition.matches({condition.field: key[2]})]
        if len(parts) == 1:
            return parts[0]
        return np.sort(np.concatenate(parts)) if parts else np.empty(0, dtype=np.intp)

    def _column(self, field: str) -> dict[_Key, RowNumbers]:
        column = self._columns.get(field)
        if column is None:
            lists: defaultdict[_Key, list[int]] = defaultdict(list)
            for row, chunk in enumerate(self.chunks):
                value = field_of(chunk, field)
                if value is not None:
                    lists[_key(value)].append(row)
            column = {key: np.array(rows, dtype=np.intp) for key, rows in lists.items()}
            self._columns[field] = column
        return column


def field_of(chunk: Chunk, field: str) -> Scalar | None:
    """A chunk's value under a filter's field: its metadata, and its document's id as `document_id`."""
    value = chunk.metadata.get(field)
    return chunk.document_id if value is None and field == "document_id" else value


def _key(value: Scalar) -> _Key:
    """1, True and "1" are different values, 1 and 1.0 are the same (as in `Condition.matches`)."""
    return isinstance(value, str), isinstance(value, bool), value
