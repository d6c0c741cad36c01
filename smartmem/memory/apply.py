"""Changes of memory items, with their audit rows and vector-sync jobs, in few set-based statements.

Every way in (extraction, a user's edit, expiry, clean-up) collects its changes in `Changes` and flushes them inside
its own transaction: an item never changes without an audit row and an `embed` job beside it.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.engine import Connection
from uuid_utils import uuid7

from smartmem.db.engine import Database
from smartmem.db.tables import memory_audit_logs, memory_items
from smartmem.errors import StoreError
from smartmem.jobs.enqueue import embed_order_key
from smartmem.jobs.queue import enqueue
from smartmem.jobs.types import NewJob
from smartmem.memory.facts import NAMESPACE, Fact
from smartmem.types import JobType, MemoryStatus, Operation, VectorStatus

Row = dict[str, Any]
REASON_CHARS = 512

# What audit rows keep of an item: all that a restore or a reader needs, and nothing that changes by itself.
_SNAPSHOT = (
    "status",
    "memory_type",
    "title",
    "content",
    "slot",
    "confidence",
    "importance",
    "sensitivity_level",
    "is_explicit",
    "superseded_by",
)
_SNAPSHOT_TIMES = ("valid_from", "valid_to", "ttl_at")
_encode = json.JSONEncoder(ensure_ascii=False).encode  # json.dumps would make a new encoder for each row


class ItemChanged(StoreError):
    """A memory changed between being read and being written (an edit raced a decision): nothing was written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a memory comes from: whose it is, and the ids under which its whole story can be found again."""

    user_id: int
    namespace: str = NAMESPACE
    assistant_id: str | None = None
    conversation_id: str | None = None
    run_id: str | None = None
    source_message_id: str | None = None
    source_event_id: str | None = None
    job_id: int | None = None
    trace_id: str = ""


def new_item(fact: Fact, origin: Origin, now: dt.datetime) -> Row:
    """The row of a new active memory."""
    return {
        "id": str(uuid7()),
        "namespace": origin.namespace,
        "user_id": origin.user_id,
        "assistant_id": origin.assistant_id,
        "conversation_id": origin.conversation_id,
        "run_id": origin.run_id,
        "memory_type": fact.memory_type,
        "title": fact.title,
        "content": fact.content,
        "content_hash": fact.content_hash,
        "active_hash": fact.content_hash,
        "slot": fact.slot,
        "language": fact.language,
        "confidence": fact.confidence,
        "importance": fact.importance,
        "sensitivity_level": fact.sensitivity_level,
        "is_explicit": fact.is_explicit,
        "status": MemoryStatus.ACTIVE.value,
        "version": 1,
        "vector_status": VectorStatus.PENDING.value,
        "vector_fingerprint": None,
        "valid_from": fact.valid_from,
        "valid_to": None,
        "superseded_by": None,
        "ttl_at": fact.ttl_at,
        "source_message_id": origin.source_message_id,
        "source_event_id": origin.source_event_id,
        "source_job_id": origin.job_id,
        "trace_id": origin.trace_id,
        "last_access_at": None,
        "created_at": now,
        "updated_at": now,
    }


def snapshot(row: Mapping[str, Any]) -> str:
    """The item as an audit row keeps it, in JSON."""
    kept = {name: row[name] for name in _SNAPSHOT}
    for name in _SNAPSHOT_TIMES:
        value = row[name]
        kept[name] = None if value is None else value.isoformat()
    return _encode(kept)


class Changes:
    """Collect, then `flush` inside the caller's transaction. One object for one transaction."""

    def __init__(self, db: Database, now: dt.datetime, *, operator: str = "system") -> None:
        self._db, self._now, self._operator = db, now, operator
        self._created: list[tuple[Row, str]] = []
        self._required: set[str] = set()
        self._audit: list[Row] = []
        self._updates: dict[tuple[str, ...], list[Row]] = {}
        self._touched: dict[int, list[str]] = {}
        self._traces: dict[int, str] = {}

    def create(self, row: Row, reason: str, *, required: bool = False) -> None:
        """A new item; it is left out when an active one with the same hash is already there.

        `required`: it replaces another one, so leaving it out would lose both; then `flush` raises `ItemChanged`.
        """
        self._created.append((row, reason))
        if required:
            self._required.add(row["id"])

    def change(
        self,
        before: Mapping[str, Any],
        values: Row,
        operation: Operation,
        reason: str,
        *,
        trace_id: str | None = None,
        job_id: int | None = None,
        sync: bool = True,
    ) -> Row:
        """Change the item whose row is `before` (its version guards the write); returns the row after it.

        `sync = False` where the vector row stays right as it is.
        """
        after = {**before, **values, "version": before["version"] + 1, "updated_at": self._now}
        if "status" in values:
            after["active_hash"] = after["content_hash"] if after["status"] == MemoryStatus.ACTIVE else None
        elif "content_hash" in values and after["status"] == MemoryStatus.ACTIVE:
            after["active_hash"] = after["content_hash"]
        if sync:
            after["vector_status"] = VectorStatus.PENDING.value
        names = tuple(sorted(name for name in after if name != "id" and after[name] != before[name]))
        changed = {f"v_{name}": after[name] for name in names}
        self._updates.setdefault(names, []).append({"b_id": before["id"], "b_version": before["version"], **changed})
        trace = trace_id if trace_id is not None else before["trace_id"]
        self._audit.append(
            {
                "memory_id": before["id"],
                "item_version": after["version"],
                "user_id": before["user_id"],
                "operation": operation.value,
                "operator": self._operator,
                "reason": reason[:REASON_CHARS],
                "before": snapshot(before),
                "after": snapshot(after),
                "job_id": job_id,
                "trace_id": trace,
                "created_at": self._now,
            }
        )
        if sync:
            self._touch(before["user_id"], before["id"], trace)
        return after

    def flush(self, conn: Connection) -> Collection[str]:
        """Write everything; returns the ids of the items that were really created.

        Raises `ItemChanged` when a changed item is no longer at the version that was read.
        """
        self._write_updates(conn)  # first: what is superseded frees its hash for its successor
        created = self._write_created(conn)
        if self._audit:
            conn.execute(insert(memory_audit_logs), self._audit)
        if self._touched:
            enqueue(conn, [self._job(user_id, ids) for user_id, ids in self._touched.items()])
        return created

    def _touch(self, user_id: int, item_id: str, trace_id: str) -> None:
        self._touched.setdefault(user_id, []).append(item_id)
        self._traces.setdefault(user_id, trace_id)

    def _job(self, user_id: int, ids: Sequence[str]) -> NewJob:
        return embed_job(user_id, ids, self._traces[user_id])

    def _write_updates(self, conn: Connection) -> None:
        c = memory_items.c
        for names, rows in self._updates.items():
            statement = (
                update(memory_items)
                .where(c.id == bindparam("b_id"), c.version == bindparam("b_version"))
                .values({name: bindparam(f"v_{name}") for name in names})
            )
            # Ordered by id, so that two transactions take their row locks in the same order.
            rows.sort(key=lambda row: row["b_id"])
            done = conn.execute(statement, rows).rowcount
            if done != len(rows):
                ids = ", ".join(row["b_id"] for row in rows[:3])
                raise ItemChanged(f"{len(rows) - done} of {len(rows)} memories changed meanwhile ({ids}): read again")

    def _write_created(self, conn: Connection) -> Collection[str]:
        if not self._created:
            return ()
        rows = [row for row, _ in self._created]
        conn.execute(self._db.insert_ignore(memory_items), rows)
        ids = [row["id"] for row in rows]
        # The key decided, perhaps against another process: what stands under our ids is what we made.
        there = set(conn.execute(select(memory_items.c.id).where(memory_items.c.id.in_(ids))).scalars())
        if missing := self._required - there:
            raise ItemChanged(f"another process wrote the same memory meanwhile ({sorted(missing)[0]}): read again")
        operation, operator, now = Operation.CREATE.value, self._operator, self._now
        for row, reason in self._created:
            if row["id"] not in there:
                continue
            self._audit.append(
                {
                    "memory_id": row["id"],
                    "item_version": 1,
                    "user_id": row["user_id"],
                    "operation": operation,
                    "operator": operator,
                    "reason": reason[:REASON_CHARS],
                    "before": None,
                    "after": snapshot(row),
                    "job_id": row["source_job_id"],
                    "trace_id": row["trace_id"],
                    "created_at": now,
                }
            )
            if row["status"] == MemoryStatus.ACTIVE:  # history written late is never in the vector store
                self._touch(row["user_id"], row["id"], row["trace_id"])
        return there


def embed_job(user_id: int, ids: Sequence[str], trace_id: str) -> NewJob:
    """The vector-sync job of one user's items. One order key a user: a delete never overtakes the upsert before it."""
    return NewJob(
        user_id=user_id,
        job_type=JobType.EMBED.value,
        idempotency_key=f"embed:{uuid7()}",
        payload={"items": list(ids)},
        trace_id=trace_id,
        order_key=embed_order_key(user_id),
    )


def read_items(conn: Connection, ids: Iterable[str]) -> dict[str, Row]:
    """The rows of these items, by id."""
    wanted = list(ids)
    if not wanted:
        return {}
    rows = conn.execute(select(memory_items).where(memory_items.c.id.in_(wanted))).mappings()
    return {row["id"]: dict(row) for row in rows}
