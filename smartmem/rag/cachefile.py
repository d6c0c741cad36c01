"""The SQLite file of a cache: what is lost of it is only computed again."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from smartmem.errors import StoreUnavailable

BUSY_S = 30.0


def open_cache(path: str, schema: str, what: str) -> sqlite3.Connection:
    """Open or make a cache file. Several processes may share it; threads of one process take turns by a lock of theirs.

    Raises `StoreUnavailable` naming `what` and the path.
    """
    place = Path(path).expanduser()
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        opened = sqlite3.connect(place, timeout=BUSY_S, check_same_thread=False)
        opened.execute("PRAGMA journal_mode=WAL")
        opened.execute("PRAGMA synchronous=NORMAL")  # a lost entry is only computed again
        opened.execute(schema)
    except (OSError, sqlite3.Error) as error:
        raise StoreUnavailable(f"{what} {path}: {error}; choose another path") from error
    return opened
