"""Chat messages as records, and what a message must be to be stored."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass, replace
from operator import attrgetter

from smartmem.clock import as_utc
from smartmem.errors import BadRecord
from smartmem.frames import Tabular
from smartmem.text import clean
from smartmem.types import Role, is_user

NAME_CHARS = 191

_NAMES = ("conversation_id", "client_message_id", "assistant_id", "speaker", "run_id")
_names = attrgetter(*_NAMES)
_ROLES = frozenset(Role)
_TRACE_ID = re.compile(r"[\x21-\x7e]+")  # as the events have it


@dataclass(frozen=True, slots=True, kw_only=True)
class NewMessage:
    """A message to append. `occurred_at` is aware; `client_message_id` makes a resend harmless."""

    user_id: int
    conversation_id: str
    role: Role | str
    content: str
    occurred_at: dt.datetime
    client_message_id: str | None = None
    assistant_id: str | None = None
    speaker: str | None = None
    run_id: str | None = None
    trace_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Appended(Tabular):
    """Where a message is. `created` is False when it had been there already; then `event_id` is None."""

    message_id: str
    seq: int
    event_id: str | None
    created: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Message(Tabular):
    """A stored message."""

    id: str
    conversation_id: str
    user_id: int
    seq: int
    role: str
    speaker: str | None
    content: str
    occurred_at: dt.datetime
    client_message_id: str | None
    run_id: str | None
    trace_id: str


def checked_message(message: NewMessage) -> NewMessage | BadRecord:
    """The message as it can be stored (itself where nothing has to change), or what is wrong with it."""
    if not is_user(message.user_id):
        return BadRecord(f"user_id {message.user_id} must be positive and below 2^63")
    if message.role not in _ROLES:
        return BadRecord(f"role {message.role!r} is none of {', '.join(Role)}")
    try:
        occurred_at = as_utc(message.occurred_at)
    except ValueError as error:
        return BadRecord(f"occurred_at: {error}")
    for field, value in zip(_NAMES, _names(message), strict=True):
        if value is not None and (len(value) > NAME_CHARS or clean(value)[1]):
            return BadRecord(f"{field} {value[:40]!r} is longer than {NAME_CHARS} characters or not valid text")
    if not message.conversation_id.strip():
        return BadRecord("conversation_id must not be blank")
    trace_id = message.trace_id
    if trace_id is not None and not (len(trace_id) <= 64 and _TRACE_ID.fullmatch(trace_id)):
        return BadRecord(f"trace_id {trace_id[:64]!r} must be 1 to 64 printable ASCII characters without spaces")
    content, changed = clean(message.content)
    if changed or occurred_at is not message.occurred_at or message.client_message_id == "":
        return replace(
            message, content=content, occurred_at=occurred_at, client_message_id=message.client_message_id or None
        )
    return message
