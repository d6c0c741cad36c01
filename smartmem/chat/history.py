"""Chat messages: two ways in, both idempotent, each one transaction with the event that asks for extraction.

* `append_message`, `append_messages`: in the caller's transaction, or in one of their own;
* the event `chat.history.persist.requested` (`request_persist`), whose handler does the same in the transaction
  that marks the event consumed.

chat/append.py says how a batch is written.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Sequence
from functools import partial

from sqlalchemy import select
from sqlalchemy.engine import Connection
from uuid_utils import uuid7

from smartmem.chat.append import append
from smartmem.chat.message import Appended, Message, NewMessage, checked_message
from smartmem.db.engine import Database
from smartmem.db.tables import chat_messages, conversations
from smartmem.errors import BadRecord
from smartmem.outbox.events import Event, EventRegistry, PersistRequested
from smartmem.outbox.publish import publish
from smartmem.telemetry import traces
from smartmem.types import Role

__all__ = [
    "Appended",
    "Message",
    "NewMessage",
    "append_message",
    "append_messages",
    "handle_persist",
    "messages",
    "register",
    "request_persist",
]

BATCH = 500
SHARED = 10

_MESSAGES = chat_messages.c


def append_message(
    target: Database | Connection,
    *,
    user_id: int,
    conversation_id: str,
    role: Role | str,
    content: str,
    occurred_at: dt.datetime,
    client_message_id: str | None = None,
    assistant_id: str | None = None,
    speaker: str | None = None,
    run_id: str | None = None,
    trace_id: str | None = None,
) -> Appended:
    """Store one message, its conversation's counter and, where it asks for extraction, one outbox event.

    Given a connection, it writes in that transaction; given a database, in its own. Raises `BadRecord` for a message
    that cannot be stored (bad user, foreign conversation, …); then nothing of it is written.
    """
    message = NewMessage(
        user_id=user_id,
        conversation_id=conversation_id,
        role=role,
        content=content,
        occurred_at=occurred_at,
        client_message_id=client_message_id,
        assistant_id=assistant_id,
        speaker=speaker,
        run_id=run_id,
        trace_id=trace_id,
    )
    outcome = append_messages(target, [message])[0]
    if isinstance(outcome, BadRecord):
        raise outcome
    return outcome


def append_messages(
    target: Database | Connection, messages: Sequence[NewMessage], *, batch: int = BATCH
) -> list[Appended | BadRecord]:
    """Store messages in their order; one answer each: where it is, or why it cannot be stored.

    A message that cannot be stored keeps no other one back. Given a database, each `batch` is one transaction; given
    a connection, all are written in its transaction.
    """
    if isinstance(target, Connection):
        return append(target, messages)
    outcomes: list[Appended | BadRecord] = []
    for start in range(0, len(messages), batch):
        part = messages[start : start + batch]
        # Single messages of many callers share one commit where that saves waiting for the disk.
        begun = time.time_ns()
        done = target.grouped(append, part) if len(part) <= SHARED else target.run(partial(append, wanted=part))
        if traces.enabled:
            for sent, one in zip(part, done, strict=True):
                if isinstance(one, Appended) and one.created:
                    traces.record("append message", sent.trace_id or one.message_id, begun, message_id=one.message_id)
        outcomes += done
    return outcomes


def messages(
    target: Database | Connection,
    *,
    conversation_id: str | None = None,
    user_id: int | None = None,
    after_seq: int = 0,
    limit: int | None = None,
) -> list[Message]:
    """Messages of a conversation in order, or of a user by time. One of the two has to be given."""
    if conversation_id is None and user_id is None:
        raise BadRecord("messages() needs a conversation_id or a user_id")
    wanted = select(*(_MESSAGES[name] for name in Message.__dataclass_fields__))
    if user_id is not None:
        talks = select(conversations.c.id).where(conversations.c.user_id == user_id)  # which have an index by user
        wanted = wanted.where(_MESSAGES.conversation_id.in_(talks))
    if conversation_id is not None:
        wanted = wanted.where(_MESSAGES.conversation_id == conversation_id, _MESSAGES.seq > after_seq)
        wanted = wanted.order_by(_MESSAGES.seq)
    else:
        wanted = wanted.order_by(_MESSAGES.occurred_at, _MESSAGES.id)
    if isinstance(target, Connection):
        return [Message(**row._mapping) for row in target.execute(wanted.limit(limit))]
    with target.read() as conn:
        return [Message(**row._mapping) for row in conn.execute(wanted.limit(limit))]


def request_persist(conn: Connection, message: NewMessage) -> str:
    """Ask by event for a message to be stored; returns the event's id. Raises `BadRecord` as `append_message` does."""
    row = checked_message(message)
    if isinstance(row, BadRecord):
        raise row
    return publish(
        conn,
        PersistRequested(
            user_id=row.user_id,
            conversation_id=row.conversation_id,
            role=Role(row.role),
            content=row.content,
            occurred_at=row.occurred_at,
            client_message_id=row.client_message_id,
            assistant_id=row.assistant_id,
            speaker=row.speaker,
            run_id=row.run_id,
            trace_id=row.trace_id or str(uuid7()),
        ),
    )


def handle_persist(conn: Connection, events: Sequence[Event]) -> None:
    """Handler of `chat.history.persist.requested`. A message without a client id gets its event's id as one, so
    that a second delivery stores nothing."""
    wanted = [
        NewMessage(
            **event.payload.model_dump(exclude={"client_message_id"}),
            client_message_id=event.payload.client_message_id or f"event:{event.event_id}",
        )
        for event in events
    ]
    for outcome in append(conn, wanted):
        if isinstance(outcome, BadRecord):
            raise outcome  # the relay then goes one by one, and only this event dies


def register(registry: EventRegistry) -> None:
    """Let `registry` answer `chat.history.persist.requested`."""
    registry.register(PersistRequested, handle_persist)
