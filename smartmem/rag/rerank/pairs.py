"""Scores of a cross-encoder kept by (model, question, passage) in one SQLite file, so that no pair is read twice.

For evaluation: arms that differ in depth, views or fusion read the same pairs, and a killed run continues pair by pair.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Generator, Sequence

from smartmem.rag.cachefile import open_cache
from smartmem.rag.onnx import Encoder

_SCHEMA = "CREATE TABLE IF NOT EXISTS pairs (key BLOB PRIMARY KEY, score REAL NOT NULL) WITHOUT ROWID"
_LOOKUP = 500  # SQLite's oldest limit on variables is 999


class CachedPairs:
    """Answers `pair_scores` from the file where it can. Several processes may share the file."""

    def __init__(self, encoder: Encoder, path: str, fingerprint: str) -> None:
        self._encoder, self._fingerprint = encoder, fingerprint
        self._lock = threading.Lock()
        self._db = open_cache(path, _SCHEMA, "pair cache")

    def pair_scores(self, query: str, texts: Sequence[str]) -> Generator[float]:
        """The logit of each (query, text), in their order."""
        keys = [self._key(query, text) for text in texts]
        known = self._load(keys)
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
        if missing:
            fresh = dict(zip(missing, self._encoder.pair_scores(query, list(missing.values())), strict=True))
            with self._lock, self._db:
                self._db.executemany("INSERT OR IGNORE INTO pairs VALUES (?, ?)", fresh.items())
            known.update(fresh)
        yield from (known[key] for key in keys)

    def close(self) -> None:
        """Close the file; the object cannot be used afterwards."""
        self._db.close()

    def _key(self, query: str, text: str) -> bytes:
        parts = (self._fingerprint, query, text)
        return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).digest()

    def _load(self, keys: Sequence[bytes]) -> dict[bytes, float]:
        found: dict[bytes, float] = {}
        for i in range(0, len(keys), _LOOKUP):
            part = keys[i : i + _LOOKUP]
            marks = ",".join("?" * len(part))
            with self._lock:
                found.update(self._db.execute(f"SELECT key, score FROM pairs WHERE key IN ({marks})", part))  # noqa: S608 - only marks
        return found
