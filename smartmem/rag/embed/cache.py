"""Vectors kept by (fingerprint, SHA-256 of the text) in one SQLite file, so that nothing is embedded twice."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from smartmem.rag.cachefile import CacheFile
from smartmem.rag.embed.vectors import empty
from smartmem.rag.protocols import Embedder, Vectors
from smartmem.rag.registry import create, register


@register("embedder", "cached")
class CachedEmbedder:
    """Wraps another embedder (`inner`: a specification or an embedder). Several processes may share the file.

    Queries are also kept in memory (`queries` of them), because the same question is often asked again at once.
    """

    def __init__(self, inner: str | Mapping[str, Any] | Embedder, path: str, queries: int = 1024) -> None:
        self._inner: Embedder = create("embedder", inner) if isinstance(inner, str | Mapping) else inner
        self._recent: OrderedDict[str, Vectors] = OrderedDict()
        self._keep = queries
        self._lock = threading.Lock()
        self.hits = self.misses = 0
        self._file = CacheFile(path, "vectors", "vector", "BLOB", "vector cache")

    @property
    def dim(self) -> int:
        return self._inner.dim

    @property
    def fingerprint(self) -> str:
        return self._inner.fingerprint

    @property
    def languages(self) -> tuple[str, ...]:
        return self._inner.languages

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        return self._through("d", texts, self._inner.embed_documents)

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        if len(texts) != 1:
            return self._through("q", texts, self._inner.embed_queries)
        with self._lock:
            known = self._recent.get(texts[0])
            if known is not None:
                self._recent.move_to_end(texts[0])
                self.hits += 1
                return known.copy()
        made = self._through("q", texts, self._inner.embed_queries)
        with self._lock:
            self._recent[texts[0]] = made.copy()
            while len(self._recent) > self._keep:
                self._recent.popitem(last=False)
        return made

    def close(self) -> None:
        """Close the file; the wrapper cannot be used afterwards."""
        self._file.close()

    def _through(self, kind: str, texts: Sequence[str], embed: Callable[[Sequence[str]], Vectors]) -> Vectors:
        if not texts:
            return empty(self.dim)
        keys = [self._key(kind, text) for text in texts]
        blobs = self._file.load(keys)
        known = {key: np.frombuffer(blob, dtype="<f4").astype(np.float32) for key, blob in blobs.items()}
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
        if missing:
            rows = embed(list(missing.values()))
            fresh = dict(zip(missing, rows, strict=True))
            self._file.keep([(key, row.astype("<f4").tobytes()) for key, row in fresh.items()])
            known.update(fresh)
        self.hits += len(keys) - len(missing)
        self.misses += len(missing)
        return np.stack([known[key] for key in keys])

    def _key(self, kind: str, text: str) -> bytes:
        digest = hashlib.sha256(f"{self._inner.fingerprint}\0{kind}\0".encode())
        digest.update(text.encode("utf-8", "replace"))
        return digest.digest()
