"""Dead letters of a leased table: list, show, replay, discard; and the pruning of finished rows."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, delete, func, select, update
from sqlalchemy.engine import Connection

from smartmem.db import hot
from smartmem.db.engine import Database
from smartmem.db.lease_table import DEAD, ERROR_CHARS, FAILED, PENDING, AnyRow, LeaseRows, LeaseTable, storable
from smartmem.db.leases import Leases
from smartmem.errors import DataError
from smartmem.settings import LeaseSettings

PAGE = 1000

Conditions = list[ColumnElement[bool]]  # outside the class, where `list` is a method


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadFilter:
    """Which dead letters; what is not given does not narrow. `kind` is the event or job type."""

    ids: Sequence[int] | None = None
    kind: str | None = None
    reason_like: str | None = None  # a part of last_error


class DeadLetters:
    """Dead rows of one table. A dead letter stays until it is replayed or discarded."""

    def __init__(self, db: Database, spec: LeaseTable, settings: LeaseSettings) -> None:
        self.db, self.spec = db, spec
        self._leases = Leases(db, spec, settings)
        self._rows = LeaseRows(spec)
        self._t = spec.table.c

    def count(self) -> int:
        with self.db.read() as conn:
            return conn.execute(select(func.count()).where(self._t.dead_at.is_not(None))).scalar_one()

    def list(self, which: DeadFilter = DeadFilter(), *, limit: int = 100, offset: int = 0) -> Sequence[AnyRow]:
        """Whole rows, the latest death first."""
        wanted = select(self.spec.table).where(*self._where(which)).order_by(self._t.dead_at.desc(), self._t.id.desc())
        with self.db.read() as conn:
            return conn.execute(wanted.limit(limit).offset(offset)).all()

    def show(self, id_: int) -> tuple[AnyRow, Sequence[AnyRow]]:
        """One row, dead or not, and its history. Raises `DataError` when there is none of this id."""
        with self.db.read() as conn:
            row = conn.execute(select(self.spec.table).where(self._t.id == id_)).one_or_none()
            if row is None:
                raise DataError(f"no {self.spec.noun} has id {id_}; list them first")
            history = self.spec.history
            if history is None:
                return row, []
            return row, conn.execute(select(history).where(history.c.job_id == id_).order_by(history.c.id)).all()

    def replay(self, which: DeadFilter, *, dry_run: bool = False) -> Sequence[int]:
        """Give dead rows a new life: pending, no failures, at their old place in their key's order.

        Returns their ids; with `dry_run` nothing is changed. Later rows of their keys that are leased go back to
        the queue, because a replayed row goes before them.
        """

        def work(conn: Connection) -> Sequence[int]:
            rows = self._chosen(conn, which)
            if rows and not dry_run:
                ids = [row.id for row in rows]
                now = self.db.now()
                self._leases.take_back(conn, {row.key for row in rows})
                self._rows.log(conn, now, ids, PENDING, None, reason="replayed", attempt=0)
                self._rows.update(conn, ids, self._reborn(now), where="status='dead'")
                self.db.ring_after_commit(conn)
            return [row.id for row in rows]

        return self.db.run(work)

    def discard(self, which: DeadFilter, reason: str, *, dry_run: bool = False) -> Sequence[int]:
        """Take letters off the list for good. They stay dead, with `reason` on them, and fall to pruning.

        Rows named by id may also be waiting (pending or failed): they die now. Raises `DataError` without a reason.
        """
        if not reason.strip():
            raise DataError("a discard needs a reason: it is all that will be left to explain the loss")

        def work(conn: Connection) -> Sequence[int]:
            rows = self._chosen(conn, which, also_waiting=which.ids is not None)
            if rows and not dry_run:
                ids, now = [row.id for row in rows], self.db.now()
                told = storable(f"discarded: {reason}", ERROR_CHARS)
                self._rows.log(conn, now, ids, DEAD, None, reason=told, attempt=0)
                self._rows.update(conn, ids, self._rows.final(now, DEAD) | {"dead_at": None, "last_error": told})
                self._unpark(conn, now, {row.key for row in rows if row.status != DEAD})
            return [row.id for row in rows]

        return self.db.run(work)

    def prune(self, older_than: dt.timedelta, *, limit: int | None = None) -> int:
        """Delete rows that ended well, or were discarded, longer ago than `older_than`, with their history.

        Dead letters and open rows stay, and on SQLite the newest row of all: its id would be given again, while audit
        and decisions still name it. Goes page by page, each its own transaction, so that nobody waits for it.
        """
        cutoff = self.db.now() - older_than
        ended = self._t[self.spec.final_at or self.spec.done_at or "created_at"]
        pruned, after = 0, 0
        newest = None
        if self.db.dialect == "sqlite":
            with self.db.read() as conn:
                newest = conn.execute(select(func.max(self._t.id))).scalar()
        while limit is None or pruned < limit:
            with self.db.read() as conn:
                # By primary key: ids grow with time, so the walk ends at the first page that is too young.
                page = conn.execute(
                    select(self._t.id, self._t.created_at, self._t.status, self._t.dead_at, ended.label("ended"))
                    .where(self._t.id > after)
                    .order_by(self._t.id)
                    .limit(PAGE)
                ).all()
            ids = [row.id for row in page if row.id != newest and self._prunable(row, cutoff)]
            if limit is not None:
                ids = ids[: limit - pruned]
            if ids:
                self.db.run(lambda conn, ids=ids: self._delete(conn, ids))  # type: ignore[misc]
                pruned += len(ids)
            if len(page) < PAGE or page[0].created_at >= cutoff:
                break
            after = page[-1].id
        return pruned

    # --- inside -------------------------------------------------------------------------------------------------

    def _prunable(self, row: AnyRow, cutoff: dt.datetime) -> bool:
        if row.status == self.spec.done:
            return bool(row.ended < cutoff)
        discarded = row.status == DEAD and row.dead_at is None
        return discarded and bool((row.ended or row.created_at) < cutoff)

    def _delete(self, conn: Connection, ids: Sequence[int]) -> None:
        if self.spec.history is not None:
            conn.execute(delete(self.spec.history).where(self.spec.history.c.job_id.in_(ids)))
        conn.execute(delete(self.spec.table).where(self._t.id.in_(ids)))

    def _chosen(self, conn: Connection, which: DeadFilter, *, also_waiting: bool = False) -> Sequence[AnyRow]:
        where = self._where(which)
        if also_waiting:
            where[0] = self._t.status.in_((PENDING, FAILED, DEAD))
        wanted = select(self._t.id, self._t.status, self._t[self.spec.key].label("key")).where(*where)
        if self.db.skips_locked:
            wanted = wanted.with_for_update()
        return conn.execute(wanted.order_by(self._t.id)).all()

    def _where(self, which: DeadFilter) -> Conditions:
        where: Conditions = [self._t.dead_at.is_not(None)]
        if which.ids is not None:
            where.append(self._t.id.in_(which.ids))
        if which.kind is not None:
            where.append(self._t[self.spec.kind] == which.kind)
        if which.reason_like is not None:
            where.append(self._t.last_error.contains(which.reason_like, autoescape=True))
        return where

    def _reborn(self, now: dt.datetime) -> dict[str, Any]:
        blank: dict[str, Any] = {
            name: None for name in ("dead_at", "lease_token", "worker_id", self.spec.final_at) if name
        }
        values = {"status": PENDING, "retry_count": 0, "due_at": now, "order_key": hot.Raw(self.spec.key)}
        return self._rows.stamped(blank | values, now)

    def _unpark(self, conn: Connection, now: dt.datetime, keys: set[str]) -> None:
        """Rows that a claim had moved behind these (Choice._park) are due now."""
        if keys:
            conn.execute(
                update(self.spec.table)
                .where(self._t.order_key.in_(keys), self._t.status == PENDING, self._t.due_at > now)
                .values(due_at=now)
            )
