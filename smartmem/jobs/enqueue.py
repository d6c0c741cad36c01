"""The handler of `memory.extract.requested`: one `extract` job for each event, and never a model call."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.engine import Connection

from smartmem.errors import BadRecord
from smartmem.jobs.queue import enqueue
from smartmem.jobs.types import NewJob
from smartmem.outbox.events import Event, EventHandler, EventRegistry, ExtractRequested
from smartmem.settings import ExtractSettings, JobSettings
from smartmem.text import clean, cut
from smartmem.types import JobType


def extract_order_key(user_id: int) -> str:
    """Jobs that change a user's facts."""
    return f"u{user_id}"


def embed_order_key(user_id: int) -> str:
    """Jobs that only bring the vector store up to date: apart, so that a down store holds no fact back."""
    return f"v{user_id}"


def extract_job(event: Event, max_chars: int) -> NewJob:
    """The job that an event asks for. Raises `BadRecord` when nothing of its text is left."""
    payload: ExtractRequested = event.payload
    text, was_cleaned = clean(payload.source_text)
    kept, was_cut = cut(text, max_chars)
    if not kept.strip():
        raise BadRecord(f"event {event.event_id}: no text is left within {max_chars} characters")
    return NewJob(
        user_id=payload.user_id,
        job_type=JobType.EXTRACT,
        idempotency_key=payload.idempotency_key,
        order_key=extract_order_key(payload.user_id),
        conversation_id=payload.conversation_id,
        source_message_id=payload.source_message_id,
        source_event_id=event.event_id,
        trace_id=payload.trace_id,
        payload={
            "user_id": payload.user_id,
            "conversation_id": payload.conversation_id,
            "assistant_id": payload.assistant_id,
            "run_id": payload.run_id,
            "source_message_id": payload.source_message_id,
            "source_role": payload.source_role,
            "source_text": kept,
            "source_chars": len(payload.source_text),
            "cut": was_cut,
            "cleaned": was_cleaned,
            "occurred_at": payload.occurred_at,
            "trace_id": payload.trace_id,
        },
    )


def extract_handler(extract: ExtractSettings, jobs: JobSettings) -> EventHandler:
    """The event handler for these settings."""

    def handle(conn: Connection, events: Sequence[Event]) -> None:
        enqueue(conn, [extract_job(event, extract.max_chars) for event in events], max_retry=jobs.max_retry)

    return handle


def register(registry: EventRegistry, extract: ExtractSettings, jobs: JobSettings) -> None:
    """Let `registry` answer `memory.extract.requested`."""
    registry.register(ExtractRequested, extract_handler(extract, jobs))
