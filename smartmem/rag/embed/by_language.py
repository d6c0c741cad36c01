"""Two models behind one embedder: each text goes to the one that reads its language."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from smartmem.errors import ConfigError, MissingModel
from smartmem.rag.models import resolve
from smartmem.rag.protocols import Embedder, Vectors
from smartmem.rag.registry import create, register
from smartmem.telemetry import log
from smartmem.text import language

Spec = Mapping[str, Any]


@register("embedder", "by-language")
class ByLanguageEmbedder:
    """Texts in a language that `first` reads (models.toml says which it does) are its own, `other` has the rest.

    `other` is loaded with the first text that is its own: who writes English only neither waits nor pays for it. Where
    its files are missing, `first` does everything and `languages` stay its own, as if it stood alone. Vectors of two
    models have nothing in common, so a question finds texts of its own side only; words have to do the rest.
    Fingerprints name both models. Both need the same number of dimensions.
    """

    def __init__(self, first: Spec, other: Spec) -> None:
        self._first: Embedder = create("embedder", first)
        if not self._first.languages:
            raise ConfigError(
                f"embedder 'by-language': first = {dict(first)!r} names no languages in models.toml, so nothing is "
                "left for the other; use it alone"
            )
        self._later = other
        self._other: Embedder | None = None
        self._lock = threading.Lock()
        self.dim = self._first.dim
        missing = _missing(other)
        if missing:
            log.warning("embedder 'by-language' goes on with its first model alone: %s", missing)
        self._alone = bool(missing)
        self.languages = self._first.languages if self._alone else ()
        self.fingerprint = self._first.fingerprint
        if not self._alone:
            self.fingerprint = f"by-language:{self._first.fingerprint}|{_named(other)}"

    @property
    def tokens_read(self) -> int | None:
        """Tokens that the models have read so far; None where one does not count."""
        counts = [getattr(part, "tokens_read", None) for part in (self._first, self._other) if part is not None]
        known = [count for count in counts if isinstance(count, int)]
        return sum(known) if len(known) == len(counts) else None

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        return self._embed(texts, "embed_documents")

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        return self._embed(texts, "embed_queries")

    def _embed(self, texts: Sequence[str], how: str) -> Vectors:
        made: Vectors = np.empty((len(texts), self.dim), dtype=np.float32)
        own = [self._alone or language(text) in self._first.languages for text in texts]
        for mine in (True, False):
            at = [i for i, is_own in enumerate(own) if is_own is mine]
            if at:
                made[at] = getattr(self._first if mine else self._loaded(), how)([texts[i] for i in at])
        return made

    def _loaded(self) -> Embedder:
        with self._lock:
            if self._other is None:
                other: Embedder = create("embedder", self._later)
                if other.dim != self.dim:
                    raise ConfigError(
                        f"embedder 'by-language': {self.dim} and {other.dim} dimensions; take two models of one size"
                    )
                self._other = other
            return self._other


def _missing(spec: Spec) -> str:
    """Why a model of models.toml cannot run here yet; empty if it can, or is a server's."""
    if spec.get("name") != "onnx":
        return ""
    try:
        resolve(str(spec.get("model"))).path("model.onnx")
    except MissingModel as error:
        return str(error)
    return ""


def _named(spec: Spec) -> str:
    """What changes whenever the model does, without loading it."""
    version = resolve(str(spec["model"])).version if spec.get("name") == "onnx" else ""
    return f"{sorted(spec.items())}:{version}"
