"""What a leased table is, and the statements on its rows that leases and dead letters share."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Table, select
from sqlalchemy.engine import Connection

from smartmem.db import hot
from smartmem.db.engine import Database
from smartmem.db.tables import memory_job_events, memory_jobs, outbox_messages
from smartmem.errors import StaleLease
from smartmem.text import clean, cut

AnyRow = Any  # a row with its columns by name: SQLAlchemy's, or of hot.fetch

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
    columns: str  # what a claim reads besides `created_at` and what leases need
    done_at: str | None = None  # set on success
    final_at: str | None = None  # set on success and on death
    started_at: str | None = None  # set by the first claim
    updated_at: str | None = None
    history: Table | None = None


OUTBOX = LeaseTable(
    table=outbox_messages,
    noun="event",
    done="consumed",
    key="message_key",
    kind="event_type",
    columns="event_id,event_type,event_version,payload",
    done_at="consumed_at",
)
JOBS = LeaseTable(
    table=memory_jobs,
    noun="job",
    done="success",
    key="job_key",
    kind="job_type",
    columns=("user_id,conversation_id,source_message_id,source_event_id,job_type,idempotency_key,payload,trace_id"),
    final_at="finished_at",
    started_at="started_at",
    updated_at="updated_at",
    history=memory_job_events,
)


# One for each row, as `Event`, `Job` and `NewJob`: named tuples, for a frozen dataclass takes twice as long to make.
class Claimed(NamedTuple):
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


@dataclass(frozen=True, slots=True, kw_only=True)
class NextTry:
    """A failed row that waits for its next attempt. `kind`: event or job type."""

    kind: str
    due_at: dt.datetime
    failures: int
    max_retry: int
    error: str


def next_try(db: Database, spec: LeaseTable) -> NextTry | None:
    """The row in back-off that is due first, None when none is. By the index of unfinished rows."""
    t = spec.table.c
    wanted = select(t[spec.kind], t.due_at, t.retry_count, t.max_retry, t.last_error)
    wanted = wanted.where(t.due_at.is_not(None), t.status == FAILED).order_by(t.due_at).limit(1)
    with db.read() as conn:
        row = conn.execute(wanted).one_or_none()
    if row is None:
        return None
    kind, due_at, failures, most, error = row
    return NextTry(kind=kind, due_at=due_at, failures=failures, max_retry=most, error=error or "")


class LeaseRows:
    """Statements on the rows of one leased table."""

    def __init__(self, spec: LeaseTable) -> None:
        self.spec = spec

    def update(
        self,
        conn: Connection,
        ids: Iterable[int],
        values: Mapping[str, Any],
        *,
        held: str | None = None,
        where: str = "",
    ) -> int:
        """Set columns of rows by id; `held` narrows to those under a token, `where` adds a condition of ours."""
        settings = ",".join(f"{name}={_value(conn, name, value)}" for name, value in values.items())
        statement = (
            f"UPDATE {self.spec.table.name} SET {settings} WHERE id {hot.ids_in(ids)}"  # noqa: S608
            f"{where and ' AND ' + where}{self._held(conn, held)}"
        )
        params = {name: value for name, value in values.items() if not isinstance(value, hot.Raw)}
        return hot.run(conn, statement, params | _token(held))

    def held_update(self, conn: Connection, token: str | None, ids: Sequence[int], values: Mapping[str, Any]) -> None:
        """Update rows that this token holds (None: rows that wait, locked by this transaction); `StaleLease` when any
        of them is not held any more."""
        waiting = f"status='{PENDING}'" if token is None else ""
        changed = self.update(conn, ids, values, held=token, where=waiting)
        if changed != len(ids):
            raise StaleLease(
                f"{len(ids) - changed} of {len(ids)} {self.spec.noun}s are no longer held under lease {token} "
                f"(first id {ids[0]}): the lease expired or was taken back; nothing was changed"
            )

    def still_held(self, conn: Connection, token: str, ids: Iterable[int], *, where: str) -> set[int]:
        """Those of `ids` that this token still holds, and that satisfy a condition of ours."""
        statement = f"SELECT id FROM {self.spec.table.name} WHERE id {hot.ids_in(ids)} AND {where}"  # noqa: S608
        return {row.id for row in hot.fetch(conn, statement + self._held(conn, token), _token(token))}

    def stamped(self, values: Mapping[str, Any], now: dt.datetime) -> dict[str, Any]:
        """`values`, and the column that says when a row was last changed."""
        return dict(values) | ({self.spec.updated_at: now} if self.spec.updated_at else {})

    def final(self, now: dt.datetime, status: str) -> dict[str, Any]:
        """What becomes of a row that is done or dead: no longer due, no longer in its key's order."""
        stamps = [self.spec.final_at, "dead_at" if status == DEAD else self.spec.done_at]
        gone = {"status": status, "due_at": hot.Raw("NULL"), "order_key": hot.Raw("NULL")}
        return self.stamped(gone | {name: now for name in stamps if name}, now)

    def log(
        self,
        conn: Connection,
        now: dt.datetime,
        ids: Iterable[int],
        to: str,
        worker_id: str | None,
        *,
        reason: str | None = None,
        attempt: int = 1,
        held: str | None = None,
    ) -> None:
        """Write history for a transition that is about to happen. `to` may be `Raw`; without `worker_id` it is the
        row's own; `attempt` is added to the failures so far.

        Taken from the table itself, before the update: no id travels twice, and the old status is the true one.
        """
        history = self.spec.history
        if history is None:
            return
        told = None if reason is None else cut(reason, REASON_CHARS)[0]
        worker = "worker_id" if worker_id is None else hot.named(conn, "worker")
        statement = (
            f"INSERT INTO {history.name} (job_id,from_status,to_status,at,attempt,worker_id,reason)"  # noqa: S608
            f" SELECT id,status,{_value(conn, 'target', to)},{hot.named(conn, 'now')},retry_count+{int(attempt)},"
            f"{worker},{hot.named(conn, 'reason')}"
            f" FROM {self.spec.table.name} WHERE id {hot.ids_in(ids)}{self._held(conn, held)}"
        )
        params: dict[str, Any] = {"now": now, "reason": told}
        if not isinstance(to, hot.Raw):
            params["target"] = to
        if worker_id is not None:
            params["worker"] = worker_id
        hot.run(conn, statement, params | _token(held))

    def _held(self, conn: Connection, token: str | None) -> str:
        return "" if token is None else f" AND status='{PROCESSING}' AND lease_token={hot.named(conn, 'held')}"


def _token(held: str | None) -> dict[str, Any]:
    return {} if held is None else {"held": held}


def _value(conn: Connection, name: str, value: Any) -> str:
    return str(value) if isinstance(value, hot.Raw) else hot.named(conn, name)


def storable(error: str, limit: int) -> str:
    """An error's text as a column may hold it: no NUL or lone surrogate, cut by character."""
    return cut(clean(error)[0], limit)[0]
