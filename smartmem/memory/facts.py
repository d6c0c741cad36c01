"""What flows through the memory chain: a message in, candidate facts out of an extractor, facts ready to be written.

Payloads and candidates come from outside (a queue row, a model's answer), so they are checked by pydantic here;
a `Fact` is made by `normalise` alone and is trusted from then on.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from smartmem.clock import UTC
from smartmem.errors import BadRecord

EMPTIED = "[forgotten]"  # stands where `forget` has taken a text away
NAMESPACE = "main"  # replays write into namespaces of their own
TITLE_CHARS = 64
CONTENT_CHARS = 1000

Action = Literal["assert", "retract"]


class Message(BaseModel):
    """The payload of an `extract` job: one user message. Unknown keys are ignored, so that v1 may grow."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    user_id: int = Field(gt=0)
    source_text: str
    conversation_id: str | None = None
    assistant_id: str | None = None
    run_id: str | None = None
    source_message_id: str | None = None
    source_role: str = "user"
    speaker: str | None = None
    occurred_at: dt.datetime
    trace_id: str = ""
    namespace: str = NAMESPACE
    # Replays name another extractor or write mode; None means the handler's own.
    extractor: dict[str, Any] | None = None
    write_mode: Literal["legacy", "shadow", "decision"] | None = None

    @classmethod
    def parse(cls, payload: Mapping[str, Any], speaker: str | None = None) -> Message:
        """Check a job's payload; `BadRecord` (permanent) names the field. `speaker` fills a missing one."""
        try:
            message = cls.model_validate(payload)
        except ValidationError as error:
            first = error.errors(include_input=False)[0]
            field = ".".join(str(part) for part in first["loc"])
            raise BadRecord(f"extract payload: {field}: {first['msg']}") from None
        changed: dict[str, Any] = {}
        if message.occurred_at.tzinfo is None:
            changed["occurred_at"] = message.occurred_at.replace(tzinfo=UTC)
        if speaker and message.speaker is None:
            changed["speaker"] = speaker
        return message.model_copy(update=changed) if changed else message


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One fact as an extractor says it; nothing in it is trusted but that `content` is a str.

    `action = "retract"`: the message takes something back and `content` describes what. `span` is where the message
    says it (code points, half-open). `occurred_at` in the message's own zone is what relative dates are counted from.
    `unsure`: too unsure to be remembered for itself; it counts only where it changes or ends a memory.
    """

    memory_type: str
    content: str
    title: str = ""
    confidence: Any = None
    importance: Any = None
    sensitivity_level: Any = 0
    is_explicit: bool = False
    ttl_at: dt.datetime | None = None
    slot: str | None = None
    span: tuple[int, int] | None = None
    action: Action = "assert"
    unsure: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """A checked fact. `content_hash` = SHA-256("type::normalised content"); times are aware UTC."""

    memory_type: str
    title: str
    content: str
    content_hash: str
    confidence: float
    importance: float
    sensitivity_level: int
    is_explicit: bool
    language: str
    valid_from: dt.datetime
    ttl_at: dt.datetime | None = None
    slot: str | None = None
    span: tuple[int, int] | None = None
    action: Action = "assert"
    unsure: bool = False

    def to_json(self) -> dict[str, Any]:
        """What a decision row keeps of the fact: everything, times as ISO 8601."""
        return {
            "memory_type": self.memory_type,
            "title": self.title,
            "content": self.content,
            "content_hash": self.content_hash,
            "confidence": self.confidence,
            "importance": self.importance,
            "sensitivity_level": self.sensitivity_level,
            "is_explicit": self.is_explicit,
            "language": self.language,
            "valid_from": self.valid_from.isoformat(),
            "ttl_at": self.ttl_at.isoformat() if self.ttl_at else None,
            "slot": self.slot,
            "span": list(self.span) if self.span else None,
            "action": self.action,
            "unsure": self.unsure,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """Something that was dropped or put right, with its reason code; recorded on the job."""

    index: int
    code: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.index}:{self.code}" + (f" ({self.detail})" if self.detail else "")
