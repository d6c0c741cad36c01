"""Questions to the tables as a whole: states, histories, latencies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from smartmem.db.engine import Database
from smartmem.db.tables import chat_messages, memory_items, memory_job_events, memory_jobs
from smartmem.errors import needs
from smartmem.jobs.queue import JobQueue
from smartmem.outbox.queue import OutboxQueue
from smartmem.workbench.reports import JobHistory, Status

if TYPE_CHECKING:
    import pandas as pd


def status(db: Database, outbox: OutboxQueue, queue: JobQueue) -> Status:
    """States of events, jobs, memories and vectors, depth and age of what waits."""
    events, jobs = outbox.depth(), queue.depth()
    item = memory_items.c
    with db.read() as conn:
        messages = conn.execute(select(func.count()).select_from(chat_messages)).scalar_one()
        memories = _counts(conn.execute(select(item.status, func.count()).group_by(item.status)).all())
        vectors = _counts(conn.execute(select(item.vector_status, func.count()).group_by(item.vector_status)).all())
    ages = [age for age in (events.oldest_age_s, jobs.oldest_age_s) if age is not None]
    return Status(
        database=db.url,
        messages=messages,
        events=events.by_status,
        jobs=jobs.by_status,
        memories=memories,
        vectors=vectors,
        unfinished=events.unfinished + jobs.unfinished,
        oldest_age_s=max(ages, default=None),
        dead_events=events.dead,
        dead_jobs=jobs.dead,
    )


def job_history(db: Database) -> JobHistory:
    """Every state change of every job, in the order in which they were written."""
    event, job = memory_job_events.c, memory_jobs.c
    wanted = (
        select(
            event.job_id,
            job.job_type,
            job.user_id,
            event.from_status,
            event.to_status,
            event.at,
            event.attempt,
            event.worker_id,
            event.reason,
        )
        .join_from(memory_job_events, memory_jobs, event.job_id == job.id)
        .order_by(event.id)
    )
    with db.read() as conn:
        return JobHistory(rows=[dict(row._mapping) for row in conn.execute(wanted)])


def memory_latency(db: Database) -> pd.DataFrame:
    """One row a memory that came from a message: when each was committed (`message_at`, `memory_at`, UTC)."""
    with needs("eval"):
        import pandas as pd

    message, item = chat_messages.c, memory_items.c
    wanted = select(message.created_at, item.created_at).join_from(
        memory_items, chat_messages, item.source_message_id == message.id
    )
    with db.read() as conn:
        rows = [tuple(row) for row in conn.execute(wanted)]
    return pd.DataFrame(rows, columns=["message_at", "memory_at"])


def _counts(rows: Any) -> Mapping[str, int]:
    return dict(rows)
