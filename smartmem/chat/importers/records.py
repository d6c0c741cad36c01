"""What every conversation file comes down to: conversations of sessions of turns."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from smartmem.types import Role


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One thing that one speaker said. `id` is unique in its conversation only; `occurred_at` is UTC or unknown."""

    id: str
    speaker: str
    role: Role
    text: str
    occurred_at: dt.datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """Turns that follow one another without a long pause."""

    id: str
    turns: tuple[Turn, ...]
    occurred_at: dt.datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """All sessions that one reader may search together: a chat of two people, or one person with an assistant."""

    id: str
    sessions: tuple[Session, ...]
    user_id: int = 0

    def turns(self) -> Iterator[Turn]:
        """All turns in the order in which they were said."""
        for session in self.sessions:
            yield from session.turns


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed:
    """A conversation, the number of its record in the file (from 1), and the record itself for what a loader adds."""

    conversation: Conversation
    record: int
    path: str
    raw: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedMessage:
    """One message as `append_message` takes it. `client_message_id` makes a second import add nothing."""

    conversation_id: str
    user_id: int
    role: Role
    speaker: str
    content: str
    occurred_at: dt.datetime | None
    client_message_id: str
    session_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSummary:
    """What a conversation file holds; made by reading all of it once."""

    path: str
    format: str
    conversations: int
    sessions: int
    messages: int
