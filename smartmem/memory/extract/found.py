"""What reading a message finds, and how it becomes candidate facts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from smartmem.memory.extract import dates
from smartmem.memory.extract.base import Extraction, Intent
from smartmem.memory.extract.segment import trim
from smartmem.memory.extract.slots import sensitivity
from smartmem.memory.facts import Candidate, Message
from smartmem.types import MemoryType

EXPLICIT_CONFIDENCE = 0.9
_INTENTS = {
    MemoryType.CONSTRAINT.value: Intent.STANDING_INSTRUCTION,
    MemoryType.PREFERENCE.value: Intent.PREFERENCE,
    MemoryType.FACT.value: Intent.PERSONAL_FACT,
    MemoryType.TODO_HINT.value: Intent.PERSONAL_FACT,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A stretch of the message that says something worth keeping."""

    kind: str
    start: int
    end: int
    confidence: float
    sentence: int
    slot: str | None = None
    explicit: bool = False
    retract: bool = False
    core: int = 0  # the length of what a rule fits, without what stands beside it
    bare: bool = False  # an instruction without a word that says it holds for good

    def moved(self, by: int) -> Found:
        """The same stretch in a text with `by` characters before it."""
        return replace(self, start=self.start + by, end=self.end + by)


def surest(found: Sequence[Found], limit: int) -> list[Found]:
    """The `limit` most confident ones, in the order of the text."""
    return sorted(sorted(found, key=lambda f: -f.confidence)[:limit], key=lambda f: f.start)


def extraction(found: Sequence[Found], message: Message, unsure: Sequence[Found] = ()) -> Extraction:
    """The outcome for a message that says at least one thing."""
    kinds = [_INTENTS[f.kind] for f in found if not f.retract]
    return Extraction(
        facts=tuple(_candidate(f, message) for f in found),
        unsure=tuple(replace(_candidate(f, message), unsure=True) for f in unsure),
        intent=kinds[0] if kinds else Intent.PERSONAL_FACT,
    )


def _candidate(found: Found, message: Message) -> Candidate:
    text = message.source_text
    start, end = trim(text, found.start, found.end)
    said = text[start:end]
    day = (
        dates.last_day(said, message.occurred_at) if found.kind == MemoryType.TODO_HINT and not found.retract else None
    )
    return Candidate(
        memory_type=found.kind,
        content=said,
        confidence=found.confidence,
        sensitivity_level=sensitivity(found.kind, said),
        is_explicit=found.explicit,
        ttl_at=dates.end_of(day, message.occurred_at.tzinfo) if day else None,
        slot=found.slot,
        span=(start, end),
        action="retract" if found.retract else "assert",
    )
