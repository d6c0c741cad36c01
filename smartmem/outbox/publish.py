"""Write events into the outbox, in the caller's transaction and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic_core import PydanticSerializationError
from sqlalchemy import insert
from sqlalchemy.engine import Connection
from uuid_utils import uuid7

from smartmem.db.engine import Database
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
    now = db.now()
    retries = _MAX_RETRY if max_retry is None else max_retry
    rows: list[dict[str, Any]] = [
        {
            "event_id": str(uuid7()),  # by time, so that its unique index grows at one end
            "event_type": event.event_type,
            "event_version": event.version,
            "aggregate_type": event.aggregate_type,
            "aggregate_id": event.aggregate_id,
            "message_key": event.message_key,
            "payload": _json(event),
            "trace_id": event.trace_id,
            "status": PENDING,
            "retry_count": 0,
            "max_retry": retries,
            "due_at": now,
            "order_key": event.message_key,
            "created_at": now,
        }
        for event in events
    ]
    conn.execute(insert(outbox_messages), rows)
    db.ring_after_commit(conn)
    return [row["event_id"] for row in rows]


_MAX_RETRY: int = OutboxSettings().max_retry


def _json(event: EventPayload) -> str:
    try:
        return event.model_dump_json()
    except PydanticSerializationError as error:
        raise BadRecord(f"event {event.event_type} cannot be written as JSON: {error}; clean its text first") from None
