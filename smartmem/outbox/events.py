"""The events that the outbox carries, and which handler answers which.

Payloads are versioned. A change that an old handler could misread is a new version with its own model; both stay
registered until no row of the old one is left.
"""

from __future__ import annotations

import datetime as dt
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Annotated, Any, ClassVar, NamedTuple

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field
from sqlalchemy.engine import Connection

from smartmem.errors import ConfigError
from smartmem.text import sha256
from smartmem.types import MAX_ID, Role


def _not_blank(value: str) -> str:
    if not value.strip():
        raise ValueError("must not be blank")
    return value


NonBlank = Annotated[str, AfterValidator(_not_blank)]
UserId = Annotated[int, Field(gt=0, le=MAX_ID)]
# As long as the columns that will hold them.
Name = Annotated[str, Field(max_length=191)]
NonBlankName = Annotated[Name, AfterValidator(_not_blank)]


class EventPayload(BaseModel, ABC):
    """Base of all payloads: the class says where and in which order the event goes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    event_type: ClassVar[str]
    version: ClassVar[int]
    aggregate_type: ClassVar[str]

    trace_id: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[\x21-\x7e]+$")]

    @property
    @abstractmethod
    def aggregate_id(self) -> str:
        """The thing that the event is about."""

    @property
    @abstractmethod
    def message_key(self) -> str:
        """Events of one key are handled in the order in which they were written."""


class PersistRequested(EventPayload):
    """Somebody wants a chat message to be stored."""

    event_type: ClassVar[str] = "chat.history.persist.requested"
    version: ClassVar[int] = 1
    aggregate_type: ClassVar[str] = "conversation"

    user_id: UserId
    conversation_id: NonBlankName
    role: Role
    content: str
    occurred_at: AwareDatetime
    client_message_id: NonBlankName | None = None
    assistant_id: Name | None = None
    speaker: Name | None = None
    run_id: Name | None = None

    @property
    def aggregate_id(self) -> str:
        return self.conversation_id

    @property
    def message_key(self) -> str:
        # Not the bare id: a user's extract events have the user's id as key, and must not queue behind this.
        return f"conversation:{self.conversation_id}"


class ExtractRequested(EventPayload):
    """A user message may hold something worth remembering."""

    event_type: ClassVar[str] = "memory.extract.requested"
    version: ClassVar[int] = 1
    aggregate_type: ClassVar[str] = "user"

    user_id: UserId
    conversation_id: NonBlankName
    assistant_id: Name | None = None
    run_id: Name | None = None
    source_message_id: Annotated[str, Field(max_length=64, pattern=r"^[\x21-\x7e]+$")] | None = None
    source_role: NonBlank
    source_text: NonBlank
    occurred_at: AwareDatetime
    idempotency_key: NonBlank

    @property
    def aggregate_id(self) -> str:
        return str(self.user_id)

    @property
    def message_key(self) -> str:
        return str(self.user_id)


def extract_key(user_id: int, conversation_id: str, source_message_id: str | None, text: str) -> str:
    """The idempotency key of an extraction: the same for each delivery of one message, another for the same words
    said again (they have another message id).

    Message ids grow with time, and keys that begin with them go to one end of their index: a digest alone made a batch
    of jobs write a page of it for each job.
    """
    digest = sha256("\n".join((str(user_id), conversation_id, source_message_id or sha256(text))))
    return f"extract:{source_message_id}:{digest[:32]}" if source_message_id else f"extract:{digest}"


class Event(NamedTuple):
    """An event in a handler's hands."""

    id: int
    event_id: str
    payload: Any  # of the registered model
    attempt: int
    created_at: dt.datetime


# Set-based: all events of one type in a batch, in order. Writes through `conn` only, because the relay commits its
# effects together with `consumed`; it may be called again with the same events, also one by one. `BadRecord` means
# that no further attempt can help.
EventHandler = Callable[[Connection, Sequence[Event]], None]


class EventRegistry:
    """(event type, version) → payload model and handler."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int], tuple[type[EventPayload], EventHandler]] = {}

    def register(self, model: type[EventPayload], handler: EventHandler) -> None:
        """Raises `ConfigError` when the event already has a handler: two would both believe that it is theirs."""
        key = (model.event_type, model.version)
        if key in self._known:
            raise ConfigError(f"event {key[0]} version {key[1]} already has a handler")
        self._known[key] = (model, handler)

    def find(self, event_type: str, version: int) -> tuple[type[EventPayload], EventHandler] | None:
        return self._known.get((event_type, version))

    def types(self) -> list[tuple[str, int]]:
        return sorted(self._known)
