"""Write events into the outbox, in the caller's transaction and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic_core import PydanticSerializationError, to_json
from sqlalchemy.engine import Connection
from uuid_utils import uuid7

from smartmem.db.engine import Database
from smartmem.db.hot import insert_rows, place, stamp
from smartmem.db.lease_table import PENDING
from smartmem.db.tables import outbox_messages
from smartmem.errors import BadRecord
from smartmem.outbox.events import EventPayload
from smartmem.settings import OutboxSettings


def publish(conn: Connection, event: EventPayload, *, max_retry: int | None = None) -> str:
    """Write one event; returns its id. It exists if and only if the caller's transaction commits."""
    return publish_many(conn, [event], max_retry=max_retry)[0]


def publish_many(conn: Connection, events: Sequence[EventPayload], *, max_retry: int | None = None) -> list[str]:
    """Write events in their order, in one statement; returns their ids. `BadRecord` for one that is not JSON."""
    if not events:
        return []
    db = Database.of(conn)
    now = stamp(db.now())
    # The ids follow the time, so that their unique index grows at one end.
    rows = [
        (
            str(uuid7()),
            event.event_type,
            event.version,
            event.aggregate_type,
            event.aggregate_id,
            key := event.message_key,
            key,
            _json(event),
            event.trace_id,
        )
        for event in events
    ]
    insert_rows(
        conn,
        outbox_messages,
        {
            "status": PENDING,
            "retry_count": 0,
            "max_retry": _MAX_RETRY if max_retry is None else max_retry,
            "due_at": now,
            "lease_token": place(conn),
            "created_at": now,
        },
        _COLUMNS,
        rows,
    )
    db.ring_after_commit(conn)
    return [row[0] for row in rows]


_COLUMNS = (
    "event_id",
    "event_type",
    "event_version",
    "aggregate_type",
    "aggregate_id",
    "message_key",
    "order_key",
    "payload",
    "trace_id",
)
_MAX_RETRY: int = OutboxSettings().max_retry


def _json(event: EventPayload) -> str:
    try:
        return to_json(event).decode()
    except PydanticSerializationError as error:
        raise BadRecord(f"event {event.event_type} cannot be written as JSON: {error}; clean its text first") from None
