"""What a language model is here: one question in, one answer out, with what it cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """One call. `schema` is the JSON schema that the answer has to fit, None for free text."""

    system: str
    user: str
    schema: Mapping[str, Any] | None = None
    schema_name: str = "answer"
    temperature: float = 0.0
    max_tokens: int = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What calls cost. `calls` counts those that reached the model; cached answers cost nothing."""

    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            calls=self.calls + other.calls,
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
            cached=self.cached + other.cached,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatAnswer:
    """The model's words. `complete` is False when it ran out of tokens: what is there may be half of it."""

    text: str
    model: str
    complete: bool = True
    usage: Usage = field(default_factory=Usage)


class ChatModel(Protocol):
    """Answers one request.

    Raises `TransientModelError` for time-outs, rate limits, server errors and lost connections, `ModelError` for what
    no repetition can help (a refused key, an unknown model).
    """

    @property
    def name(self) -> str:
        """Model and endpoint: what a cache and a manifest are keyed by."""
        ...

    def complete(self, request: ChatRequest) -> ChatAnswer: ...
