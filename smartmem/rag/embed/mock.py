"""An embedder without meaning, for tests and for measuring what meaning adds."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from smartmem.errors import ConfigError
from smartmem.rag.embed.vectors import empty, unit
from smartmem.rag.protocols import Vectors
from smartmem.rag.registry import register


@register("embedder", "mock")
class MockEmbedder:
    """Each text becomes a random unit vector seeded by its SHA-256: the same everywhere, near only to itself."""

    tokens_read = 0  # it reads none

    def __init__(self, dim: int = 64) -> None:
        if dim < 2:
            raise ConfigError(f"mock embedder: dim = {dim}; use 2 or more")
        self.dim = dim
        self.languages: tuple[str, ...] = ()
        self.fingerprint = f"mock:{dim}"

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        if not texts:
            return empty(self.dim)
        return unit(np.stack([self._one(text) for text in texts]))

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        return self.embed_documents(texts)

    def _one(self, text: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        seed = hashlib.sha256(text.encode("utf-8", "replace")).digest()
        # SHAKE gives as many bytes as needed; a NumPy generator's stream may change between releases.
        raw = hashlib.shake_256(seed).digest(self.dim * 4)
        return np.frombuffer(raw, dtype="<i4").astype(np.float64) + 0.5
