"""Scores of a cross-encoder kept by (model, question, passage) in one SQLite file, so that no pair is read twice.

For evaluation: arms that differ in depth, views or fusion read the same pairs, and a killed run continues pair by pair.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Sequence

from smartmem.rag.cachefile import CacheFile
from smartmem.rag.onnx import Encoder


class CachedPairs:
    """Answers `pair_scores` from the file where it can. Several processes may share the file."""

    def __init__(self, encoder: Encoder, path: str, fingerprint: str) -> None:
        self._encoder, self._fingerprint = encoder, fingerprint
        self._file = CacheFile(path, "pairs", "score", "REAL", "pair cache")

    def pair_scores(self, query: str, texts: Sequence[str]) -> Generator[float]:
        """The logit of each (query, text), in their order."""
        keys = [self._key(query, text) for text in texts]
        known = self._file.load(keys)
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
        if missing:
            fresh = dict(zip(missing, self._encoder.pair_scores(query, list(missing.values())), strict=True))
            self._file.keep(fresh.items())
            known.update(fresh)
        yield from (known[key] for key in keys)

    def close(self) -> None:
        """Close the file; the object cannot be used afterwards."""
        self._file.close()

    def _key(self, query: str, text: str) -> bytes:
        parts = (self._fingerprint, query, text)
        return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).digest()
