"""Which due rows may be taken now: locked, in the order of their keys, none that must wait for another.

Rows of one key are worked in the order of their ids. So a choice holds a run of a key's unfinished rows from its head,
and nothing of a key whose head somebody else holds or which waits in back-off.
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.engine import Connection

from smartmem.db import hot
from smartmem.db.engine import Database
from smartmem.db.lease_table import FAILED, PROCESSING, AnyRow, LeaseRows, LeaseTable

PARTS = 8  # of a batch that may hold what ended a process


class Choice:
    """One look for rows, inside the transaction that takes them. `kinds` narrows it to event or job types."""

    def __init__(
        self, conn: Connection, spec: LeaseTable, now: dt.datetime, kinds: Sequence[str] | None = None
    ) -> None:
        self._conn, self._spec, self._now, self._kinds = conn, spec, now, kinds
        self._rows, self._name = LeaseRows(spec), spec.table.name
        db = Database.of(conn)
        self._on_mysql, self._skips_locked = db.dialect == "mysql", db.skips_locked
        # PyMySQL takes a time apart in Python, one by one; as text it costs a sixth, and `hot.moment` reads both. Also
        # in `_candidates`.
        created = "CAST(created_at AS CHAR) AS created_at" if self._on_mysql else "created_at"
        self._columns = f"id,order_key,status,retry_count,max_retry,worker_id,{spec.columns},{created}"
        self._chosen: dict[int, AnyRow] = {}
        self._blocked: set[str] = set()

    def rows(self, batch: int) -> Sequence[AnyRow]:
        """At most `batch` rows, in the order of their ids, as they were before anything is done to them."""
        after: tuple[dt.datetime, int] | None = None
        while True:
            page = self._candidates(batch, after)
            if page:
                after = (hot.moment(page[-1].due), page[-1].id)
                # SQLite's one writer has locked everything already, and its candidates are whole rows.
                locked = self._lock([row.id for row in page]) if self._skips_locked else page
                self._chosen |= self._in_order(locked)
            # A page may be all blocked: a key's rows behind a head in back-off must not hide other keys' rows.
            if len(page) < batch or 2 * len(self._chosen) >= batch:
                break
        return [self._chosen[id_] for id_ in sorted(self._chosen)][:batch]  # cut at the end: each key keeps its head

    def _candidates(self, limit: int, after: tuple[dt.datetime, int] | None) -> Sequence[AnyRow]:
        """Due rows, read without locks. `… WHERE due_at <= ? FOR UPDATE SKIP LOCKED` locks index ranges on InnoDB,
        was twice as slow and deadlocked with inserts; the ids found here are locked by primary key."""
        due_at = "CAST(due_at AS CHAR)" if self._on_mysql else "due_at"
        columns = f"id,{due_at} AS due" if self._skips_locked else f"due_at AS due,{self._columns}"
        params: dict[str, Any] = {"now": self._now}
        where = self._of_kinds(params)
        if after is not None:
            params["due"], params["id"] = after
            due, id_ = self._named("due"), self._named("id")
            where += f" AND due_at>={due} AND (due_at>{due} OR id>{id_})"
        if self._blocked:
            where += f" AND order_key NOT IN ({self._names('b', self._blocked, params)})"
        statement = (
            f"SELECT {columns} FROM {self._name} WHERE due_at<={self._named('now')}{where}"  # noqa: S608
            f" ORDER BY due_at,id LIMIT {int(limit)}"
        )
        return hot.fetch(self._conn, statement, params)

    def _lock(self, ids: Sequence[int]) -> Sequence[AnyRow]:
        params: dict[str, Any] = {"now": self._now}
        where = self._of_kinds(params)
        # Left to itself the optimizer goes by due_at while few rows are due, and then locks what it reads there.
        by_key = " FORCE INDEX (PRIMARY)" if self._on_mysql else ""
        statement = (
            f"SELECT {self._columns} FROM {self._name}{by_key} WHERE id {hot.ids_in(ids)}"  # noqa: S608
            f" AND due_at<={self._named('now')}{where} ORDER BY id"
            f"{' FOR UPDATE SKIP LOCKED' if self._skips_locked else ''}"
        )
        return hot.fetch(self._conn, statement, params)

    def _in_order(self, locked: Sequence[AnyRow]) -> dict[int, AnyRow]:
        """Those of `locked` with no earlier unfinished row of their key outside our hands.

        Read after locking: of two claimers that race for one key, the one that holds its head sees no foreign row
        before its own; the other does. READ COMMITTED makes this read see what was committed a moment ago.
        """
        heads = self._foreign_heads(locked)
        if heads:
            # A head whose back-off has just ended is due, but later than its successors: take it before them.
            due = self._lock(sorted(heads.values()))
            if due:
                locked = [*due, *locked]
                heads = self._foreign_heads(locked)
        free: dict[int, AnyRow] = {}
        waiting: dict[int, list[int]] = defaultdict(list)
        for row in locked:
            head = heads.get(row.order_key)
            if head is None or row.id < head:
                free[row.id] = row
            else:
                self._blocked.add(row.order_key)
                if row.status != PROCESSING:
                    waiting[head].append(row.id)
        if waiting:
            self._park(waiting)
        return free

    def _foreign_heads(self, locked: Sequence[AnyRow]) -> dict[str, int]:
        """For each key of `locked`, its first unfinished row that is not in our hands, if that is not too late to
        matter."""
        if not locked:
            return {}
        ours = [row.id for row in locked] + list(self._chosen)
        keys = list({row.order_key for row in locked})
        foreign = hot.fetch(
            self._conn,
            f"SELECT order_key,MIN(id) AS id FROM {self._name} WHERE order_key IN ({hot.marks(self._conn, keys)})"  # noqa: S608
            f" AND id<{max(row.id for row in locked)} AND NOT id {hot.ids_in(ours)} GROUP BY order_key",
            keys,
        )
        return {row.order_key: row.id for row in foreign}

    def _park(self, waiting: Mapping[int, Sequence[int]]) -> None:
        """Rows behind a head in back-off are due when it is: else every claim would read past them again."""
        t = self._spec.table.c
        heads = self._conn.execute(
            select(t.id, t.due_at).where(t.id.in_(list(waiting)), t.status == FAILED, t.due_at > self._now)
        ).all()
        for head in heads:
            self._rows.update(self._conn, waiting[head.id], {"due_at": head.due_at})

    def _of_kinds(self, params: dict[str, Any]) -> str:
        return "" if self._kinds is None else f" AND {self._spec.kind} IN ({self._names('k', self._kinds, params)})"

    def _names(self, letter: str, values: Iterable[str], params: dict[str, Any]) -> str:
        """Add `values` to `params` under names of their own; returns the names for `IN (…)`."""
        given = {f"{letter}{number}": value for number, value in enumerate(values)}
        params |= given
        return ",".join(self._named(name) for name in given)

    def _named(self, name: str) -> str:
        return hot.named(self._conn, name)


def apart(rows: Sequence[AnyRow], batch: int) -> Sequence[AnyRow]:
    """The first of `rows`, fewer where leases have run out: one of those rows may be what ended its process, and those
    that were claimed with it must not die with it. They come in ever smaller parts, and alone for the last attempt."""
    most = batch
    for place, row in enumerate(rows):
        if row.status == PROCESSING and row.retry_count + 1 < row.max_retry:
            last = row.retry_count + 2 == row.max_retry
            most = min(most, 1 if last else max(1, batch // PARTS ** (row.retry_count + 1)))
        if place and place >= most:
            return rows[:place]
    return rows
