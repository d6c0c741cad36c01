"""Candidate facts become facts: folded, cut, hashed, defaulted, deduplicated. Every loss has a reason code.

Dropped:   UNKNOWN_TYPE  BLANK  DUPLICATE_IN_BATCH  LOW_CONFIDENCE  TOO_MANY
Put right: CONFIDENCE_INVALID  IMPORTANCE_INVALID  SENSITIVITY_INVALID  CONTENT_CUT  TTL_IN_PAST  TTL_NAIVE
           CHARS_REPLACED
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from smartmem.clock import UTC
from smartmem.memory.facts import CONTENT_CHARS, TITLE_CHARS, Candidate, Fact, Note
from smartmem.text import clean, cut, fold_space, language, normalise, sha256
from smartmem.types import MemoryType

DEFAULT_CONFIDENCE = 0.6
DEFAULT_IMPORTANCE = {
    MemoryType.CONSTRAINT.value: 0.95,
    MemoryType.PREFERENCE.value: 0.85,
    MemoryType.TODO_HINT.value: 0.8,
    MemoryType.FACT.value: 0.6,
}
SLOT_CHARS = 128
# Normalising a megabyte to keep a thousand characters of it would be work for nothing.
_WINDOW = CONTENT_CHARS * 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Normalised:
    """The facts that stand, and what became of the rest."""

    facts: tuple[Fact, ...]
    dropped: tuple[Note, ...] = ()
    notes: tuple[Note, ...] = ()


def content_hash(memory_type: str, content: str) -> str:
    """SHA-256 of `type::normalised content`: equal for texts that differ in case, width or spacing only."""
    return sha256(f"{memory_type}::{normalise(content)}")


def normalise_facts(
    candidates: Sequence[Candidate],
    occurred_at: dt.datetime,
    *,
    min_confidence: float = 0.0,
    max_facts: int | None = None,
) -> Normalised:
    """Check and fold candidates of one message. The `max_facts` with the highest confidence stand (ties: the first)."""
    facts: list[Fact] = []
    dropped: list[Note] = []
    notes: list[Note] = []
    seen: set[tuple[str, str]] = set()
    valid_from = occurred_at.astimezone(UTC)
    for index, candidate in enumerate(candidates):
        fact = _one(index, candidate, valid_from, dropped, notes)
        if fact is None:
            continue
        key = (fact.action, fact.content_hash)
        if key in seen:
            dropped.append(Note(index=index, code="DUPLICATE_IN_BATCH"))
        elif fact.confidence < min_confidence:
            dropped.append(Note(index=index, code="LOW_CONFIDENCE", detail=f"{fact.confidence:.2f}"))
        else:
            seen.add(key)
            facts.append(fact)
    if max_facts is not None and len(facts) > max_facts:
        keep = sorted(range(len(facts)), key=lambda i: (-facts[i].confidence, i))[:max_facts]
        dropped.extend(Note(index=i, code="TOO_MANY") for i in range(len(facts)) if i not in keep)
        facts = [facts[i] for i in sorted(keep)]
    return Normalised(facts=tuple(facts), dropped=tuple(dropped), notes=tuple(notes))


def _one(
    index: int, candidate: Candidate, valid_from: dt.datetime, dropped: list[Note], notes: list[Note]
) -> Fact | None:
    kind = candidate.memory_type
    if kind not in DEFAULT_IMPORTANCE:
        dropped.append(Note(index=index, code="UNKNOWN_TYPE", detail=str(kind)[:32]))
        return None
    text, changed = clean(candidate.content[:_WINDOW])
    if changed:
        notes.append(Note(index=index, code="CHARS_REPLACED"))
    content, was_cut = cut(fold_space(text), CONTENT_CHARS)
    if not content:
        dropped.append(Note(index=index, code="BLANK"))
        return None
    if was_cut or len(candidate.content) > _WINDOW:
        notes.append(Note(index=index, code="CONTENT_CUT", detail=f"{len(candidate.content)} characters"))
    title = clean(candidate.title[:_WINDOW])[0] if candidate.title else content
    return Fact(
        memory_type=str(kind),
        title=cut(fold_space(title), TITLE_CHARS)[0] or cut(content, TITLE_CHARS)[0],
        content=content,
        content_hash=content_hash(kind, content),
        confidence=_unit(candidate.confidence, DEFAULT_CONFIDENCE, "CONFIDENCE_INVALID", index, notes),
        importance=_unit(candidate.importance, DEFAULT_IMPORTANCE[kind], "IMPORTANCE_INVALID", index, notes),
        sensitivity_level=_level(candidate.sensitivity_level, index, notes),
        is_explicit=bool(candidate.is_explicit),
        language=language(content),
        valid_from=valid_from,
        ttl_at=_ttl(candidate.ttl_at, valid_from, index, notes),
        slot=cut(fold_space(candidate.slot), SLOT_CHARS)[0] if candidate.slot else None,
        span=candidate.span,
        action=candidate.action,
        unsure=candidate.unsure,
    )


def _unit(value: Any, default: float, code: str, index: int, notes: list[Note]) -> float:
    """A number in 0..1; a missing, infinite or foreign one is the default, and only the missing one is no news."""
    if value is None:
        return default
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and 0 <= value <= 1:
        return float(value)
    notes.append(Note(index=index, code=code, detail=str(value)[:32]))
    return default


def _level(value: Any, index: int, notes: list[Note]) -> int:
    if isinstance(value, int) and 0 <= value <= 2:
        return int(value)
    notes.append(Note(index=index, code="SENSITIVITY_INVALID", detail=str(value)[:32]))
    return 2  # unknown counts as sensitive: a wrong block can be undone, a leak cannot


def _ttl(value: dt.datetime | None, valid_from: dt.datetime, index: int, notes: list[Note]) -> dt.datetime | None:
    if value is None:
        return None
    if value.tzinfo is None:
        notes.append(Note(index=index, code="TTL_NAIVE"))
        value = value.replace(tzinfo=UTC)
    value = value.astimezone(UTC)
    if value <= valid_from:
        # Over before it was said: the date was misread, the fact itself may still be right.
        notes.append(Note(index=index, code="TTL_IN_PAST", detail=value.isoformat()))
        return None
    return value
