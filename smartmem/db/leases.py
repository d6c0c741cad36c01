"""One mechanism for the outbox and for jobs: claim, renew, finish, fail, release (docs/adr/0002-leases.md).

    leases = Leases(db, JOBS, settings.jobs)
    claim = leases.claim(200, "worker-1")
    with db.begin() as conn:
        ...effects...
        leases.finish(conn, claim.token, [row.id for row in claim.rows])

`due_at` is the visibility time: a claimed row is due again when its lease ends, so a crashed worker needs no
rescuer. Each claim writes a fresh token, and every later statement names it: who lost the lease changes nothing
and gets `StaleLease`.

Rows of one key are worked in the order of their ids; which may be taken now, db/lease_choice.py says.
"""

from __future__ import annotations

import datetime as dt
import random
import threading
import uuid
from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import select
from sqlalchemy.engine import Connection

from smartmem.db import hot
from smartmem.db.doorbell import Listener
from smartmem.db.engine import Database
from smartmem.db.lease_choice import Choice, apart
from smartmem.db.lease_table import (
    DEAD,
    ERROR_CHARS,
    FAILED,
    JOBS,
    OUTBOX,
    PENDING,
    PROCESSING,
    AnyRow,
    Claim,
    Claimed,
    Failure,
    LeaseRows,
    LeaseTable,
    storable,
)
from smartmem.db.time import since_boot
from smartmem.settings import LeaseSettings

__all__ = ["JOBS", "OUTBOX", "Claim", "Claimed", "Failure", "LeaseTable", "Leases", "storable"]

V = TypeVar("V")
K = TypeVar("K", bound=Hashable)

SWEEP_S = 30.0


class Leases:
    """Claims on one table. Thread-safe."""

    def __init__(
        self, db: Database, spec: LeaseTable, settings: LeaseSettings, *, rng: random.Random | None = None
    ) -> None:
        self.db, self.spec, self.settings = db, spec, settings
        self.rows = LeaseRows(spec)
        self._t = spec.table.c
        self._rng = rng or random.Random()  # noqa: S311 - jitter, not secrets
        self._swept_at: float | None = None

    def any_due(self) -> bool:
        """Whether a claim may find something: one statement, for idle loops."""
        with self.db.glance() as conn:
            return conn.execute(select(self._t.id).where(self._t.due_at <= self.db.now()).limit(1)).first() is not None

    def wait(self, bell: Listener, seconds: float, stop: threading.Event) -> None:
        """Wait until something may be due: woken by the doorbell, else looking every `seconds`.

        Ends too when `stop` is set. Every look of an idle process is one statement. Rows that others hold back
        (a lease, a head in back-off) end the wait as well; the claim then tells them apart.
        """
        while not bell.wait(seconds, stop) and not stop.is_set():
            self.sweep()
            if self.any_due():
                return

    # --- claim --------------------------------------------------------------------------------------------------

    def claim(self, batch: int, worker_id: str, *, kinds: Sequence[str] | None = None) -> Claim:
        """Lease at most `batch` due rows. `kinds` narrows the choice to types (a key must not mix types then)."""
        self.sweep()

        def work(conn: Connection) -> Claim:
            now = self.db.now()
            rows = Choice(conn, self.spec, now, kinds).rows(batch)
            return self._take(conn, now, apart(rows, batch), worker_id)

        return self.db.run(work)

    def untried(self, conn: Connection, batch: int) -> list[Claimed] | None:
        """Due rows that nobody has tried yet, kept from others until this transaction ends, by its locks alone.

        For work that is nothing but SQL in this same transaction: it needs no lease, hence no write and no commit of
        its own, and `finish` takes None for a token. What it saves is the count of an attempt that kills the process,
        so see Relay for when it may be used. None when rows are due that have been tried: those are for `claim`.
        """
        rows = Choice(conn, self.spec, self.db.now()).rows(batch)
        if any(row.status != PENDING for row in rows):
            return None
        return [_claimed(row) for row in rows]

    def _take(self, conn: Connection, now: dt.datetime, rows: Sequence[AnyRow], worker_id: str) -> Claim:
        token = str(uuid.uuid4())
        lease: dict[str, Any] = {
            "status": PROCESSING,
            "lease_token": token,
            "worker_id": worker_id,
            "due_at": now + dt.timedelta(seconds=self.settings.lease_s),
        }
        if self.spec.started_at:
            lease[self.spec.started_at] = hot.Raw(f"COALESCE({self.spec.started_at},'{hot.stamp(now)}')")
        fresh = [row.id for row in rows if row.status != PROCESSING]
        expired = [row for row in rows if row.status == PROCESSING]
        if fresh:
            self.rows.log(conn, now, fresh, PROCESSING, worker_id)
            self.rows.update(conn, fresh, self.rows.stamped(lease, now))
        died = 0
        for reason, group in _groups(expired, _expired).items():
            again = [row.id for row in group if row.retry_count + 1 < row.max_retry]
            over = [row.id for row in group if row.retry_count + 1 >= row.max_retry]
            died += len(over)
            count = {"retry_count": hot.Raw("retry_count+1"), "last_error": reason}
            if again:
                self.rows.log(conn, now, again, PROCESSING, worker_id, reason=reason, attempt=2)
                self.rows.update(conn, again, self.rows.stamped(lease | count, now))
            if over:
                self.rows.log(conn, now, over, DEAD, worker_id, reason=reason)
                self.rows.update(conn, over, self.rows.final(now, DEAD) | count)
        held = [_claimed(row) for row in rows if row.status != PROCESSING or row.retry_count + 1 < row.max_retry]
        return Claim(token=token, rows=held, died=died)

    def sweep(self) -> None:
        """Pull back rows that are due further ahead than any legal delay: the clock was set back since."""
        mark = since_boot()
        if self._swept_at is not None and mark - self._swept_at < SWEEP_S:
            return
        self._swept_at = mark
        self.pull_back()

    def pull_back(self) -> int:
        """Make rows due now that are due further ahead than any lease or back-off reaches. Returns their number."""
        now = self.db.now()
        # Twice, and a minute: another process may have been given longer times.
        legal = now + dt.timedelta(seconds=2 * max(self.settings.lease_s, *self.settings.backoff_s, 0) + 60)
        with self.db.read() as conn:
            ids = conn.execute(select(self._t.id).where(self._t.due_at > legal)).scalars().all()
        if ids:
            still = f"due_at>'{hot.stamp(legal)}'"
            self.db.run(lambda conn: self.rows.update(conn, ids, {"due_at": now}, where=still))
        return len(ids)

    # --- what becomes of a claimed row --------------------------------------------------------------------------

    def renew(self, token: str, ids: Sequence[int]) -> set[int]:
        """Extend the lease. Returns the ids that are no longer ours: their work should stop.

        A lease that has run out stays so, claimed again or not: somebody may hold an earlier row of its key by now.
        """
        now = self.db.now()
        due, alive = now + dt.timedelta(seconds=self.settings.lease_s), f"due_at>'{hot.stamp(now)}'"

        def work(conn: Connection) -> set[int]:
            if self.rows.update(conn, ids, {"due_at": due}, held=token, where=alive) == len(ids):
                return set()
            return set(ids) - self.rows.still_held(conn, token, ids, where=alive)

        return self.db.run(work) if ids else set()

    def finish(
        self, conn: Connection, token: str | None, ids: Sequence[int], values: Mapping[str, Any] | None = None
    ) -> None:
        """Mark rows done inside the transaction that holds their effects. `values` go to further columns.

        Raises `StaleLease` when any of them is not ours any more: roll the transaction back. Without a token the rows
        are `untried` ones of this very transaction.
        """
        if not ids:
            return
        now = self.db.now()
        self.rows.log(conn, now, ids, self.spec.done, None, held=token)
        gone = {"lease_token": None} if token is None else {}
        self.rows.held_update(conn, token, ids, self.rows.final(now, self.spec.done) | gone | dict(values or {}))

    def fail(self, conn: Connection, token: str, failures: Sequence[Failure]) -> dict[int, dt.datetime | None]:
        """Record failures: back-off, or death at the last attempt. Returns when each is due again (None: dead).

        Raises `StaleLease` as `finish` does.
        """
        now = self.db.now()
        due: dict[int, dt.datetime | None] = {}
        for (error, attempt, dead), group in _groups(failures, lambda f: (f.error, f.claimed.attempt, f.dead)).items():
            ids = [failure.claimed.id for failure in group]
            told = storable(error, ERROR_CHARS)
            count = {"retry_count": attempt, "last_error": told}
            self.rows.log(conn, now, ids, DEAD if dead else FAILED, None, reason=told, held=token)
            if dead:
                self.rows.held_update(conn, token, ids, self.rows.final(now, DEAD) | count)
                due |= dict.fromkeys(ids)
                continue
            for again, part in self._back_off(now, attempt, ids).items():
                values = {"status": FAILED, "due_at": again, "lease_token": None} | count
                self.rows.held_update(conn, token, part, self.rows.stamped(values, now))
                due |= dict.fromkeys(part, again)
        return due

    def release(self, conn: Connection, token: str, ids: Sequence[int], *, due_at: dt.datetime | None = None) -> int:
        """Give rows back unworked; not counted as an attempt. Rows that are not ours any more are left alone."""
        if not ids:
            return 0
        return self._return(conn, self.db.now(), ids, due_at, "released", held=token)

    def give_back(self, left: list[tuple[str, list[int]]]) -> int:
        """Release what is still held of `left` (tokens and ids), emptying it: after an outage, at a stop."""
        released = 0
        while left:
            token, ids = left[-1]
            released += self.db.run(partial(self._release, token=token, ids=ids))
            left.pop()
        return released

    def _release(self, conn: Connection, *, token: str, ids: Sequence[int]) -> int:
        return self.release(conn, token, ids)

    def take_back(self, conn: Connection, keys: Collection[str]) -> int:
        """Return the leased rows of `keys` to the queue, so that a replayed row goes before them. Whoever works
        them is fenced and drops its work."""
        leased = select(self._t.id).where(self._t.order_key.in_(keys), self._t.status == PROCESSING)
        ids = conn.execute(leased.with_for_update() if self.db.skips_locked else leased).scalars().all()
        return self._return(conn, self.db.now(), ids, None, "taken back: an earlier row was replayed")

    def _return(
        self,
        conn: Connection,
        now: dt.datetime,
        ids: Sequence[int],
        due: dt.datetime | None,
        reason: str,
        *,
        held: str | None = None,
    ) -> int:
        back = hot.Raw(f"CASE WHEN retry_count>0 THEN '{FAILED}' ELSE '{PENDING}' END")
        self.rows.log(conn, now, ids, back, None, reason=reason, held=held)
        values = {"status": back, "due_at": due or now, "lease_token": None, "worker_id": None}
        return self.rows.update(conn, ids, self.rows.stamped(values, now), held=held)

    def _back_off(self, now: dt.datetime, attempt: int, ids: Sequence[int]) -> dict[dt.datetime, list[int]]:
        steps = self.settings.backoff_s
        length = steps[min(attempt, len(steps)) - 1] if steps else 0.0
        if not self.settings.jitter:
            return {now + dt.timedelta(seconds=length): list(ids)}
        spread: dict[dt.datetime, list[int]] = defaultdict(list)
        for id_ in ids:  # full jitter (Brooker 2015): the whole length is random, so a herd comes apart
            spread[now + dt.timedelta(seconds=self._rng.uniform(0, length))].append(id_)
        return spread


def _claimed(row: AnyRow) -> Claimed:
    # Who held an expired lease has tried and told nobody.
    tried = row.retry_count + (row.status == PROCESSING)
    return Claimed(id=row.id, key=row.order_key, attempt=tried + 1, max_retry=row.max_retry, row=row)


def _expired(row: AnyRow) -> str:
    return f"lease expired: worker {row.worker_id} neither finished nor renewed it (it may have crashed on this one)"


def _groups(items: Iterable[V], key: Callable[[V], K]) -> dict[K, list[V]]:
    groups: dict[K, list[V]] = defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    return groups
