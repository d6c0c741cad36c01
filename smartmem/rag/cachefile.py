"""A cache of what models made, by SHA-256: one table of an SQLite file. What is lost of it is only computed again."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from smartmem.errors import StoreUnavailable

BUSY_S = 30.0
_LOOKUP = 500  # SQLite's oldest limit on variables is 999


class CacheFile:
    """`table` has the columns `key` and `column` (of SQL type `kind`). Threads may share an object, processes the file.

    Raises `StoreUnavailable` naming `what` and the path when it cannot be opened.
    """

    def __init__(self, path: str, table: str, column: str, kind: str, what: str) -> None:
        self._table, self._column = table, column
        self._lock = threading.Lock()
        place = Path(path).expanduser()
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(place, timeout=BUSY_S, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")  # a lost entry is only computed again
            self._db.execute(
                f"CREATE TABLE IF NOT EXISTS {table} (key BLOB PRIMARY KEY, {column} {kind} NOT NULL) WITHOUT ROWID"
            )
        except (OSError, sqlite3.Error) as error:
            raise StoreUnavailable(f"{what} {path}: {error}; choose another path") from error

    def known(self, keys: Sequence[bytes]) -> set[bytes]:
        """Which of `keys` are there."""
        return {key for (key,) in self._rows("key", keys)}

    def load(self, keys: Sequence[bytes]) -> dict[bytes, Any]:
        """What is there of `keys`."""
        return dict(self._rows(f"key, {self._column}", keys))

    def keep(self, rows: Iterable[tuple[bytes, Any]]) -> None:
        """Write (key, value) rows; what is there already stays."""
        with self._lock, self._db:
            self._db.executemany(f"INSERT OR IGNORE INTO {self._table} VALUES (?, ?)", rows)  # noqa: S608 - names of ours

    def drop(self, keys: Iterable[bytes]) -> None:
        """Remove these."""
        with self._lock, self._db:
            self._db.executemany(f"DELETE FROM {self._table} WHERE key = ?", [(key,) for key in keys])  # noqa: S608

    def close(self) -> None:
        """Close the file; the object cannot be used afterwards."""
        self._db.close()

    def _rows(self, columns: str, keys: Sequence[bytes]) -> Iterator[tuple[Any, ...]]:
        unique = list(dict.fromkeys(keys))
        for i in range(0, len(unique), _LOOKUP):
            part = unique[i : i + _LOOKUP]
            marks = ",".join("?" * len(part))
            with self._lock:
                rows = self._db.execute(f"SELECT {columns} FROM {self._table} WHERE key IN ({marks})", part).fetchall()  # noqa: S608
            yield from rows
