"""What operators and the workbench see of the outbox: rows, depth, dead letters, pruning."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from sqlalchemy import func, select

from smartmem.db.dead_letters import DeadFilter, DeadLetters
from smartmem.db.engine import Database
from smartmem.db.lease_table import DEAD, AnyRow
from smartmem.db.leases import OUTBOX
from smartmem.db.tables import outbox_messages
from smartmem.frames import Rows, Tabular
from smartmem.settings import OutboxSettings
from smartmem.types import EventStatus

_EVENTS = outbox_messages.c


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxDepth(Tabular):
    """The outbox at a glance. `oldest_age_s`: age in seconds of the oldest unfinished event, None without one."""

    by_status: dict[str, int]
    unfinished: int
    dead: int
    oldest_age_s: float | None


class Events(Rows[AnyRow]):
    """Rows of `outbox_messages`; a notebook shows what people read of them."""

    __slots__ = ()
    _hidden: ClassVar[tuple[str, ...]] = (
        "event_id", "event_version", "aggregate_id", "payload", "max_retry", "lease_token", "lease_expires_at",
        "worker_id", "trace_id", "due_at", "order_key", "dead_at",
    )  # fmt: skip


class OutboxQueue:
    """The rows of the outbox."""

    def _repr_html_(self) -> str:
        return self.depth()._repr_html_()

    def __init__(self, db: Database, settings: OutboxSettings) -> None:
        self.db, self.settings = db, settings
        self.dead = DeadLetters(db, OUTBOX, settings)

    def get(self, id_: int) -> AnyRow:
        """One event's row. Raises `DataError` when there is none."""
        return self.dead.show(id_)[0]

    def list(
        self, *, status: str | None = None, event_type: str | None = None, limit: int = 100, offset: int = 0
    ) -> Events:
        """Events, the newest first."""
        wanted = select(outbox_messages)
        if status == DEAD:
            wanted = wanted.where(_EVENTS.dead_at.is_not(None))  # by its small index
        elif status is not None:
            wanted = wanted.where(_EVENTS.status == EventStatus(status).value)
        if event_type is not None:
            wanted = wanted.where(_EVENTS.event_type == event_type)
        with self.db.read() as conn:
            return Events(conn.execute(wanted.order_by(_EVENTS.id.desc()).limit(limit).offset(offset)))

    def depth(self, *, finished: bool = True) -> OutboxDepth:
        """Counts by status and the oldest unfinished event's age. Without `finished` only open and dead rows are
        counted, which stays fast however long the history is."""
        now = self.db.now()
        counts = select(_EVENTS.status, func.count(), func.min(_EVENTS.created_at)).group_by(_EVENTS.status)
        if not finished:
            counts = counts.where(_EVENTS.due_at.is_not(None))
        with self.db.read() as conn:
            rows = conn.execute(counts).all()
        open_rows = [row for row in rows if row[0] not in (OUTBOX.done, DEAD)]
        oldest = min((row[2] for row in open_rows), default=None)
        return OutboxDepth(
            by_status={status: count for status, count, _ in rows},
            unfinished=sum(row[1] for row in open_rows),
            dead=self.dead.count(),
            oldest_age_s=None if oldest is None else max(0.0, (now - oldest).total_seconds()),
        )

    def replay(self, which: DeadFilter, *, dry_run: bool = False) -> Sequence[int]:
        """Give dead events a new life; see `DeadLetters.replay`."""
        return self.dead.replay(which, dry_run=dry_run)

    def discard(self, which: DeadFilter, reason: str, *, dry_run: bool = False) -> Sequence[int]:
        """Take dead events off the list; see `DeadLetters.discard`."""
        return self.dead.discard(which, reason, dry_run=dry_run)

    def prune(self) -> int:
        """Delete consumed events after the retention time, never before; returns how many."""
        return self.dead.prune(dt.timedelta(days=self.settings.retention_days))
