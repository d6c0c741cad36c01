"""The job queue: enqueue, look, count, prune, and its dead letters."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic_core import to_json
from sqlalchemy import func, select
from sqlalchemy.engine import Connection
from uuid_utils import uuid7

from smartmem.db import hot
from smartmem.db.dead_letters import DeadFilter, DeadLetters
from smartmem.db.engine import Database
from smartmem.db.lease_table import DEAD, PENDING, AnyRow
from smartmem.db.leases import JOBS
from smartmem.db.tables import memory_job_events, memory_jobs
from smartmem.errors import BadRecord
from smartmem.frames import Rows, Tabular
from smartmem.jobs.types import NewJob
from smartmem.settings import JobSettings
from smartmem.text import sha256
from smartmem.types import JobStatus

KEY_CHARS = 128

_JOBS = memory_jobs.c


def enqueue(conn: Connection, jobs: Sequence[NewJob], *, max_retry: int | None = None) -> int:
    """Write jobs in their order, in the caller's transaction; returns how many are new.

    A job whose idempotency key is already known is ignored, whatever became of the first one.
    """
    unique: dict[str, NewJob] = {}
    for job in jobs:
        unique.setdefault(_stored_key(job.idempotency_key), job)
    if not unique:
        return 0
    db = Database.of(conn)
    now = hot.stamp(db.now())
    # Marks the rows that this very call inserts; the first claim writes its own token over it.
    mark = hot.place(conn, str(uuid7()))
    # New ids are higher than all that were given before, so history finds its few rows at the end of the table: by
    # their 400 keys it took over twice as long (SQLite).
    last = hot.fetch(conn, f"SELECT MAX(id) AS id FROM {memory_jobs.name}", ())[0].id or 0  # noqa: S608
    hot.insert_rows(
        conn,
        memory_jobs,
        {
            "status": PENDING,
            "retry_count": 0,
            "max_retry": _MAX_RETRY if max_retry is None else max_retry,
            "due_at": now,
            "lease_token": mark,
            "created_at": now,
            "updated_at": now,
        },
        _COLUMNS,
        [_row(key, job) for key, job in unique.items()],
        conflict=hot.ignoring(conn, memory_jobs),
    )
    new = hot.run(
        conn,
        f"INSERT INTO {memory_job_events.name} (job_id,from_status,to_status,at,attempt,worker_id,reason)"  # noqa: S608
        f" SELECT id,NULL,'{PENDING}',created_at,0,NULL,'enqueued' FROM {memory_jobs.name}"
        f" WHERE id>{last} AND lease_token={hot.named(conn, 'mark')}",
        {"mark": mark},
    )
    if new:
        db.ring_after_commit(conn)
    return new


_COLUMNS = (
    "user_id",
    "conversation_id",
    "source_message_id",
    "source_event_id",
    "job_type",
    "idempotency_key",
    "payload",
    "trace_id",
    "job_key",
    "order_key",
)


def _row(key: str, job: NewJob) -> tuple[Any, ...]:
    return (
        job.user_id,
        job.conversation_id,
        job.source_message_id,
        job.source_event_id,
        str(job.job_type),
        key,
        dump(job.payload),
        job.trace_id,
        job.order_key,
        job.order_key,
    )


def dump(value: Any) -> str:
    """JSON as the tables hold it, times as ISO 8601. Raises `BadRecord` for what JSON cannot say."""
    try:
        return to_json(value).decode()
    except ValueError as error:
        raise BadRecord(f"this payload cannot be written as JSON: {error}") from None


def _stored_key(key: str) -> str:
    """A key as the column holds it: the others' keys may be long or not ASCII, and two must never become one."""
    return key if len(key) <= KEY_CHARS and key.isascii() and key.isprintable() else f"sha256:{sha256(key)}"


_MAX_RETRY: int = JobSettings().max_retry


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueDepth(Tabular):
    """The queue at a glance. `oldest_age_s`: age in seconds of the oldest unfinished job, None when there is none."""

    by_status: dict[str, int]
    unfinished: int
    dead: int
    oldest_age_s: float | None


class Jobs(Rows[AnyRow]):
    """Rows of `memory_jobs`; a notebook shows what people read of them."""

    __slots__ = ()
    _hidden: ClassVar[tuple[str, ...]] = (
        "conversation_id", "source_message_id", "source_event_id", "idempotency_key", "payload", "max_retry",
        "lease_token", "lease_expires_at", "trace_id", "started_at", "updated_at", "due_at", "order_key", "job_key",
        "dead_at", "result",
    )  # fmt: skip


class JobQueue:
    """What operators and the workbench see of the jobs."""

    def _repr_html_(self) -> str:
        return self.depth()._repr_html_()

    def __init__(self, db: Database, settings: JobSettings) -> None:
        self.db, self.settings = db, settings
        self.dead = DeadLetters(db, JOBS, settings)

    def enqueue(self, jobs: Sequence[NewJob]) -> int:
        """Enqueue in a transaction of their own; returns how many are new."""
        return self.db.run(lambda conn: enqueue(conn, jobs, max_retry=self.settings.max_retry))

    def get(self, job_id: int) -> tuple[AnyRow, Sequence[AnyRow]]:
        """A job and the history of its states. Raises `DataError` when there is none."""
        return self.dead.show(job_id)

    def list(
        self,
        *,
        status: str | None = None,
        user_id: int | None = None,
        job_type: str | None = None,
        limit: int = 100,
        offset: int = 0,
    ) -> Jobs:
        """Jobs, the newest first."""
        wanted = select(memory_jobs)
        if status == DEAD:
            wanted = wanted.where(_JOBS.dead_at.is_not(None))  # by its small index
        elif status is not None:
            wanted = wanted.where(_JOBS.status == JobStatus(status).value)
        if user_id is not None:
            wanted = wanted.where(_JOBS.user_id == user_id)
        if job_type is not None:
            wanted = wanted.where(_JOBS.job_type == job_type)
        with self.db.read() as conn:
            return Jobs(conn.execute(wanted.order_by(_JOBS.id.desc()).limit(limit).offset(offset)))

    def depth(self, *, finished: bool = True) -> QueueDepth:
        """Counts by status and the oldest unfinished job's age. Without `finished` only open and dead rows are
        counted, which stays fast however long the history is."""
        now = self.db.now()
        counts = select(_JOBS.status, func.count(), func.min(_JOBS.created_at)).group_by(_JOBS.status)
        if not finished:
            counts = counts.where(_JOBS.due_at.is_not(None))
        with self.db.read() as conn:
            rows = conn.execute(counts).all()
        by_status = {status: count for status, count, _ in rows}
        open_rows = [row for row in rows if row[0] not in (JOBS.done, DEAD)]
        oldest = min((row[2] for row in open_rows), default=None)
        return QueueDepth(
            by_status=by_status,
            unfinished=sum(row[1] for row in open_rows),
            dead=self.dead.count(),
            oldest_age_s=None if oldest is None else max(0.0, (now - oldest).total_seconds()),
        )

    def replay(self, which: DeadFilter, *, dry_run: bool = False) -> Sequence[int]:
        """Give dead jobs a new life; see `DeadLetters.replay`."""
        return self.dead.replay(which, dry_run=dry_run)

    def discard(self, which: DeadFilter, reason: str, *, dry_run: bool = False) -> Sequence[int]:
        """Take dead jobs off the list; see `DeadLetters.discard`."""
        return self.dead.discard(which, reason, dry_run=dry_run)

    def prune(self) -> int:
        """Delete finished jobs and their history after the retention time; returns how many jobs."""
        return self.dead.prune(dt.timedelta(days=self.settings.retention_days))
