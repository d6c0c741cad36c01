"""What a comparator is: it says how a new fact stands to each of the memories that it may concern."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol, TypeVar

from smartmem.errors import ConfigError, UnknownComponent
from smartmem.memory.facts import Fact
from smartmem.rag.site import load_site_components


class Relation(StrEnum):
    """How a new fact stands to a memory; `retraction`: the fact takes the memory back."""

    DUPLICATE = "duplicate"
    UPDATE = "update"
    CONFLICT = "conflict"
    RETRACTION = "retraction"
    UNRELATED = "unrelated"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One pair's verdict; `score` in 0..1 says how sure, and decides between several updates."""

    relation: Relation
    score: float
    reason: str = ""


class Comparator(Protocol):
    """Compares one fact with candidate memories (rows of memory_items).

    One answer a candidate, in order. An exception as an answer fails that pair alone; it counts as unrelated.
    """

    def compare(self, fact: Fact, candidates: Sequence[Mapping[str, Any]]) -> Sequence[Comparison | Exception]: ...


_comparators: dict[str, Callable[..., Comparator]] = {}
C = TypeVar("C", bound=Callable[..., Any])


def comparator(name: str) -> Callable[[C], C]:
    """Register a class under `name` for `create_comparator`."""

    def keep(cls: C) -> C:
        _comparators[name] = cls
        return cls

    return keep


def comparator_names() -> list[str]:
    """The registered names, sorted."""
    return sorted(_comparators)


def create_comparator(spec: str | Mapping[str, Any]) -> Comparator:
    """Make a comparator from its name or `{"name": …, option: …}`; errors name the option."""
    load_site_components()
    options = {"name": spec} if isinstance(spec, str) else dict(spec)
    name = options.pop("name", None)
    if name is None:
        raise ConfigError(f"comparator {options!r} has no name; write name = one of {', '.join(comparator_names())}")
    made = _comparators.get(str(name))
    if made is None:
        raise UnknownComponent("comparator", str(name), comparator_names())
    try:
        return made(**options)
    except TypeError as error:
        raise ConfigError(f"comparator {name!r}: {error}") from None
