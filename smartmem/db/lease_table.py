"""What a leased table is, and the statements on its rows that leases and dead letters share."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Row, String, Table, and_, insert, literal, null, select, update
from sqlalchemy.engine import Connection, CursorResult

from smartmem.db.tables import UtcDateTime, memory_job_events, memory_jobs, outbox_messages
from smartmem.errors import StaleLease
from smartmem.text import clean, cut

AnyRow = Row[*tuple[Any, ...]]

ERROR_CHARS = 2000
REASON_CHARS = 512

PENDING, PROCESSING, FAILED, DEAD = "pending", "processing", "failed", "dead"


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseTable:
    """A table whose rows are leased: what its words and columns are called."""

    table: Table
    noun: str
    done: str  # the final status of success
    key: str  # the column that keeps the order key for good
    kind: str  # the column that names the event or job type
    done_at: str | None = None  # set on success
    final_at: str | None = None  # set on success and on death
    started_at: str | None = None  # set by the first claim
    updated_at: str | None = None
    history: Table | None = None


OUTBOX = LeaseTable(
    table=outbox_messages, noun="event", done="consumed", key="message_key", kind="event_type", done_at="consumed_at"
)
JOBS = LeaseTable(
    table=memory_jobs,
    noun="job",
    done="success",
    key="job_key",
    kind="job_type",
    final_at="finished_at",
    started_at="started_at",
    updated_at="updated_at",
    history=memory_job_events,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """A row in our hands. `row` is as it was before the claim; `attempt` counts from 1."""

    id: int
    key: str
    attempt: int
    max_retry: int
    row: AnyRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Rows under one token, in the order of their ids; `died` counts rows found at the end of their attempts."""

    token: str
    rows: Sequence[Claimed]
    died: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A claimed row that did not succeed. `permanent`: no further attempt can help."""

    claimed: Claimed
    error: str
    permanent: bool = False

    @property
    def dead(self) -> bool:
        return self.permanent or self.claimed.attempt >= self.claimed.max_retry


class LeaseRows:
    """Statements on the rows of one leased table."""

    def __init__(self, spec: LeaseTable) -> None:
        self.spec = spec
        self.c = spec.table.c

    def held(self, token: str) -> ColumnElement[bool]:
        return and_(self.c.lease_token == token, self.c.status == PROCESSING)

    def update(
        self, conn: Connection, ids: Sequence[int], values: Mapping[str, Any], *where: ColumnElement[bool]
    ) -> int:
        done: CursorResult[Any] = conn.execute(update(self.spec.table).where(self.c.id.in_(ids), *where).values(values))
        return done.rowcount

    def held_update(self, conn: Connection, token: str, ids: Sequence[int], values: Mapping[str, Any]) -> None:
        """Update rows that this token holds; `StaleLease` when any of them is not held any more."""
        changed = self.update(conn, ids, values, self.held(token))
        if changed != len(ids):
            raise StaleLease(
                f"{len(ids) - changed} of {len(ids)} {self.spec.noun}s are no longer held under lease {token} "
                f"(first id {ids[0]}): the lease expired or was taken back; nothing was changed"
            )

    def stamped(self, values: Mapping[str, Any], now: dt.datetime) -> dict[str, Any]:
        return dict(values) | ({self.spec.updated_at: now} if self.spec.updated_at else {})

    def final(self, now: dt.datetime, status: str) -> dict[str, Any]:
        stamps = [self.spec.final_at, "dead_at" if status == DEAD else self.spec.done_at]
        values = {"status": status, "due_at": null(), "order_key": null()} | {name: now for name in stamps if name}
        return self.stamped(values, now)

    def log(
        self,
        conn: Connection,
        now: dt.datetime,
        ids: Sequence[int],
        to: str,
        worker_id: str | None,
        *,
        reason: str | None = None,
        attempt: int = 1,
        held: str | None = None,
    ) -> None:
        """Write history for a transition that is about to happen. `attempt` is added to the failures so far."""
        which = and_(self.c.id.in_(ids), *([self.held(held)] if held else []))
        worker = self.c.worker_id if worker_id is None else literal(worker_id)
        self.log_where(conn, now, which, literal(to), worker, reason, self.c.retry_count + attempt)

    def log_where(
        self,
        conn: Connection,
        now: dt.datetime,
        which: ColumnElement[bool],
        to: ColumnElement[Any],
        worker: Any,
        reason: str | None,
        attempt: ColumnElement[int],
    ) -> None:
        history = self.spec.history
        if history is None:
            return
        told = None if reason is None else cut(reason, REASON_CHARS)[0]
        # From the table itself, before the update: no id travels twice, and the old status is the true one.
        source = select(
            self.c.id, self.c.status, to, literal(now, UtcDateTime()), attempt, worker, literal(told, String())
        ).where(which)
        conn.execute(
            insert(history).from_select(
                ["job_id", "from_status", "to_status", "at", "attempt", "worker_id", "reason"], source
            )
        )


def storable(error: str, limit: int) -> str:
    """An error's text as a column may hold it: no NUL or lone surrogate, cut by character."""
    return cut(clean(error)[0], limit)[0]
