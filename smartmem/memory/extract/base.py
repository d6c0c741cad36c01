"""What an extractor is, and how one is found by its name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol, TypeVar

from smartmem.errors import ConfigError, UnknownComponent
from smartmem.memory.facts import Candidate, Message
from smartmem.rag.site import load_site_components
from smartmem.types import Json


class Intent(StrEnum):
    """What a message is about; the first three never yield facts."""

    CHITCHAT = "chitchat"
    TASK_REQUEST = "task_request"
    KNOWLEDGE_QA = "knowledge_qa"
    PREFERENCE = "preference"
    PERSONAL_FACT = "personal_fact"
    STANDING_INSTRUCTION = "standing_instruction"

    @property
    def holds_facts(self) -> bool:
        return self in (Intent.PREFERENCE, Intent.PERSONAL_FACT, Intent.STANDING_INSTRUCTION)


@dataclass(frozen=True, slots=True, kw_only=True)
class Extraction:
    """What an extractor found. No facts means 'nothing worth keeping'; a failure is an exception, never an empty one.

    `unsure`: what it would rather not say, kept apart; it may still change a memory (memory/decide.py).
    `usage` holds what the run cost: calls, prompt_tokens, completion_tokens, cached, prompt (its version), model.
    """

    facts: tuple[Candidate, ...] = ()
    unsure: tuple[Candidate, ...] = ()
    intent: str | None = None
    reason: str | None = None
    usage: Json = field(default_factory=dict)

    @property
    def outcome(self) -> str:
        """`facts` or `nothing`."""
        return "facts" if self.facts else "nothing"


class Extractor(Protocol):
    """Turns one message into candidate facts.

    Raises `TransientModelError` when a later call may succeed and `MalformedOutput` when a model's answer cannot be
    used; both fail the job, which is tried again.
    """

    @property
    def concurrency(self) -> int:
        """How many messages may be extracted at the same time (1 for what only computes)."""
        ...

    def extract(self, message: Message) -> Extraction: ...


_extractors: dict[str, Callable[..., Extractor]] = {}
C = TypeVar("C", bound=Callable[..., Any])


def extractor(name: str) -> Callable[[C], C]:
    """Register a class under `name` for `create_extractor`."""

    def keep(cls: C) -> C:
        _extractors[name] = cls
        return cls

    return keep


def extractor_names() -> list[str]:
    """The registered names, sorted."""
    return sorted(_extractors)


def create_extractor(spec: str | Mapping[str, Any]) -> Extractor:
    """Make an extractor from its name or `{"name": …, option: …}`; errors name the option."""
    load_site_components()
    options = {"name": spec} if isinstance(spec, str) else dict(spec)
    name = options.pop("name", None)
    if name is None:
        raise ConfigError(f"extractor {options!r} has no name; write name = one of {', '.join(extractor_names())}")
    made = _extractors.get(str(name))
    if made is None:
        raise UnknownComponent("extractor", str(name), extractor_names())
    try:
        return made(**options)
    except TypeError as error:
        raise ConfigError(f"extractor {name!r}: {error}") from None
