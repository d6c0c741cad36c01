"""What a run asked of its models: calls, texts and, where a model tells, the tokens that it read."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from smartmem.errors import SmartMemError
from smartmem.rag.models import resolve
from smartmem.rag.protocols import Embedder, Vectors
from smartmem.rag.registry import component


@dataclass(slots=True)
class Usage:
    """Of one cell. `tokens_known` is False once a model was asked that does not count (no `tokens_read`)."""

    calls: int = 0
    texts: int = 0
    tokens: int = 0
    tokens_known: bool = True

    def add(self, texts: int, before: int | None, after: int | None) -> None:
        """One call; `before` and `after` are the model's own count around it."""
        self.calls += 1
        self.texts += texts
        if before is None or after is None:
            self.tokens_known = False
        else:
            self.tokens += after - before

    def costs(self) -> dict[str, float]:
        """As a cell's costs; nothing where no model was asked, no tokens where nobody counted them."""
        made: dict[str, float] = {}
        if self.calls:
            made |= {"model_calls": self.calls, "model_texts": self.texts}
            if self.tokens_known:
                made["model_tokens"] = self.tokens
        return made


def tokens_read(model: object) -> int | None:
    """How many tokens a model has read so far, or None if it does not count."""
    count = getattr(model, "tokens_read", None)
    return count if isinstance(count, int) else None


class CountedEmbedder:
    """An embedder that notes in `usage` what it was asked."""

    def __init__(self, inner: Embedder, usage: Usage) -> None:
        self._inner, self._usage = inner, usage
        self.dim, self.fingerprint, self.languages = inner.dim, inner.fingerprint, inner.languages

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        before = tokens_read(self._inner)
        made = self._inner.embed_documents(texts)
        self._usage.add(len(texts), before, tokens_read(self._inner))
        return made

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        before = tokens_read(self._inner)
        made = self._inner.embed_queries(texts)
        self._usage.add(len(texts), before, tokens_read(self._inner))
        return made


def reranker_fingerprint(spec: Mapping[str, Any] | None) -> str:
    """A reranker's model and the version of its files, without loading it; its name where it has none."""
    if spec is None:
        return ""
    name = str(spec["name"])
    parameters = inspect.signature(component("reranker", name)).parameters
    model = spec.get("model", parameters["model"].default if "model" in parameters else None)
    if not isinstance(model, str):
        return f"{name}:{model['model']}" if isinstance(model, Mapping) and "model" in model else name
    try:
        return f"{name}:{model}:{resolve(model).version}"
    except SmartMemError:
        return f"{name}:{model}"  # of a server, or missing: then the arm says so itself
