"""Why a memory was or was not used, and where it comes from."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from sqlalchemy import Table as SqlTable
from sqlalchemy import or_, select
from sqlalchemy.engine import Connection

from smartmem.db.engine import Database
from smartmem.db.tables import (
    chat_messages,
    memory_audit_logs,
    memory_decisions,
    memory_items,
    memory_job_events,
    memory_jobs,
    outbox_messages,
)
from smartmem.errors import StoreError
from smartmem.frames import Rows, Table, Tabular
from smartmem.memory.facts import NAMESPACE
from smartmem.memory.govern import NoSuchMemory
from smartmem.memory.recall import DroppedItem, Mode, Recalled, RecalledItem, Recaller
from smartmem.memory.views import MemoryItem
from smartmem.rag.protocols import VectorStore
from smartmem.types import MemoryStatus

INJECTED, NOT_RETRIEVED = "INJECTED", "NOT_RETRIEVED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What recall did with one memory. `code`: INJECTED, a gate's reason code, NOT_RETRIEVED or NOT_ACTIVE:<status>."""

    memory: MemoryItem
    code: str
    score: float | None
    parts: Mapping[str, float]
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation(Tabular):
    """A recall with a verdict for every memory of the user: the injected first, then by score.

    `truncated`: a `limit` was given and the oldest memories are left out.
    """

    recalled: Recalled
    verdicts: tuple[Verdict, ...]
    truncated: bool = False

    _hidden: ClassVar[tuple[str, ...]] = ("id",)

    def _table(self) -> Table:
        """One row a memory of the user."""
        rows = [(v.memory.id, v.memory.memory_type, v.memory.content, v.code, v.score, v.detail) for v in self.verdicts]
        return ("id", "memory_type", "content", "code", "score", "detail"), rows

    def _above(self) -> list[str]:
        return [self.recalled.query]


def explain(
    recaller: Recaller,
    user_id: int,
    query: str,
    *,
    namespace: str = NAMESPACE,
    mode: Mode | None = None,
    limit: int | None = None,
    **scope: Any,
) -> Explanation:
    """Recall without touching anything, and say of each memory of the user (of the newest `limit`) what happened."""
    recalled = recaller.recall(user_id, query, namespace=namespace, mode=mode, touch=False, **scope)
    c = memory_items.c
    wanted = (
        select(memory_items)
        .where(c.user_id == user_id, c.namespace == namespace)
        .order_by(c.valid_from.desc(), c.id.desc())
        .limit(None if limit is None else limit + 1)
    )
    with recaller.db.read() as conn:
        items = [MemoryItem.of(dict(row)) for row in conn.execute(wanted).mappings()]
    used = {item.id: item for item in recalled.items}
    left = {item.id: item for item in recalled.dropped}
    verdicts = [_verdict(item, recalled, used.get(item.id), left.get(item.id)) for item in items[:limit]]
    verdicts.sort(key=lambda v: (v.code != INJECTED, -(v.score if v.score is not None else -1.0), v.memory.id))
    return Explanation(recalled=recalled, verdicts=tuple(verdicts), truncated=limit is not None and len(items) > limit)


def _verdict(item: MemoryItem, recalled: Recalled, used: RecalledItem | None, left: DroppedItem | None) -> Verdict:
    if used is not None:
        return Verdict(memory=item, code=INJECTED, score=used.score, parts=used.parts, detail="it is in the prompt")
    if left is not None:
        return Verdict(memory=item, code=left.reason, score=left.score, parts={}, detail=_DETAILS[left.reason])
    if recalled.blocked:
        return Verdict(memory=item, code=recalled.blocked, score=None, parts={}, detail=_DETAILS[recalled.blocked])
    if item.status != MemoryStatus.ACTIVE:
        detail = f"superseded by {item.superseded_by}" if item.superseded_by else f"its status is {item.status}"
        return Verdict(memory=item, code=f"NOT_ACTIVE:{item.status}", score=None, parts={}, detail=detail)
    waiting = "; its vector is not synced yet" if item.vector_status != "synced" else ""
    return Verdict(
        memory=item,
        code=NOT_RETRIEVED,
        score=None,
        parts={},
        detail=f"not among the nearest candidates, nor sharing words or topics with the query{waiting}",
    )


_DETAILS = {
    "LOW_SCORE": "its score is below recall.min_score",
    "EXPIRED": "its ttl_at has passed",
    "SENSITIVE_BLOCKED": "it is sensitive and the user's sensitive_memory_enabled is off",
    "SETTING_BLOCKED": "the user's memory_enabled or implicit_memory_enabled is off",
    "DUP_TOPIC": "enough memories of its slot are in already",
    "DUPLICATE": "another memory with the same text is in already",
    "OVER_BUDGET": "the budget of its type, or of tokens, is used up",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One station on the way of a memory. `at` is when it was passed, `facts` what is known of it."""

    stage: str
    id: str
    at: dt.datetime | None
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """What a person wants to know of it, in one line."""
        known = [(name, self.facts[name]) for name in _TOLD if self.facts.get(name) is not None]
        return ", ".join(f"{name}: {fact}" if name in ("reason", "stored") else str(fact) for name, fact in known)


_TOLD = ("content", "role", "event_type", "status", "outcome", "operation", "reason", "stored")


class Lineage(Rows[Step]):
    """The stations of one memory in their order; as a table their ids stand last."""

    __slots__ = ()
    _hidden = ("id",)

    def _table(self) -> Table:
        return ("stage", "at", "text", "id"), [(step.stage, step.at, step.text, step.id) for step in self]


def lineage(db: Database, user_id: int, memory_id: str, *, store: VectorStore | None = None) -> Lineage:
    """message → event → job (with its states) → decision → memory → audit → vector row, in this order.

    Stations that this memory never passed (no event for an import, no decision in legacy mode) are left out. A
    forgotten memory still has its audit rows. Raises `NoSuchMemory` when there is no trace of it at all.
    """
    with db.read() as conn:
        item = _one(conn, memory_items, id=memory_id, user_id=user_id)
        audit = _many(conn, memory_audit_logs, memory_id=memory_id, user_id=user_id)
        if item is None and not audit:
            raise NoSuchMemory(f"user {user_id} has no memory {memory_id!r} and never had")
        steps = _origin(conn, user_id, item, audit) + _decisions(conn, user_id, memory_id)
    if item is not None:
        facts = {name: item[name] for name in ("status", "version", "memory_type", "slot", "superseded_by", "valid_to")}
        steps.append(Step(stage="memory", id=memory_id, at=item["created_at"], facts=facts))
    steps += [_audit(row) for row in audit]
    if store is not None:
        steps.append(_vector(store, memory_id, item))
    return Lineage(steps)


def _origin(
    conn: Connection, user_id: int, item: Mapping[str, Any] | None, audit: Sequence[Mapping[str, Any]]
) -> list[Step]:
    job_id = item["source_job_id"] if item else next((row["job_id"] for row in audit if row["job_id"]), None)
    job = _one(conn, memory_jobs, id=job_id, user_id=user_id) if job_id else None
    message_id = (item or {}).get("source_message_id") or (job or {}).get("source_message_id")
    event_id = (item or {}).get("source_event_id") or (job or {}).get("source_event_id")
    steps: list[Step] = []
    message = _one(conn, chat_messages, id=message_id, user_id=user_id) if message_id else None
    if message:
        said = {name: message[name] for name in ("conversation_id", "seq", "role", "speaker", "content", "trace_id")}
        steps.append(Step(stage="message", id=message["id"], at=message["occurred_at"], facts=said))
    event = _one(conn, outbox_messages, event_id=event_id) if event_id else None
    if event:
        told = {name: event[name] for name in ("event_type", "status", "retry_count", "consumed_at", "trace_id")}
        steps.append(Step(stage="event", id=event["event_id"], at=event["created_at"], facts=told))
    if job:
        steps.append(_job(conn, job))
    return steps


def _job(conn: Connection, job: Mapping[str, Any]) -> Step:
    states = [
        {"to": row["to_status"], "at": row["at"], "attempt": row["attempt"], "reason": row["reason"]}
        for row in _many(conn, memory_job_events, job_id=job["id"])
    ]
    facts = {
        "status": job["status"],
        "outcome": job["outcome"],
        "result": json.loads(job["result"]) if job["result"] else None,
        "states": states,
        "trace_id": job["trace_id"],
    }
    return Step(stage="job", id=str(job["id"]), at=job["created_at"], facts=facts)


def _decisions(conn: Connection, user_id: int, memory_id: str) -> list[Step]:
    d = memory_decisions.c
    query = (
        select(memory_decisions)
        .where(d.user_id == user_id, or_(d.memory_id == memory_id, d.target_id == memory_id))
        .order_by(d.id)
    )
    names = ("mode", "operation", "written", "target_id", "memory_id", "reason", "fallback_reason", "trace_id")
    return [
        Step(stage="decision", id=str(row["id"]), at=row["created_at"], facts={name: row[name] for name in names})
        for row in conn.execute(query).mappings()
    ]


def _audit(row: Mapping[str, Any]) -> Step:
    facts = {name: row[name] for name in ("item_version", "operation", "operator", "reason", "trace_id")}
    for side in ("before", "after"):
        facts[side] = json.loads(row[side]) if row[side] else None
    return Step(stage="audit", id=str(row["id"]), at=row["created_at"], facts=facts)


def _vector(store: VectorStore, memory_id: str, item: Mapping[str, Any] | None) -> Step:
    marked = {} if item is None else {"status": item["vector_status"], "fingerprint": item["vector_fingerprint"]}
    try:
        held = [chunk.text for chunk in store.get([memory_id])]
    except StoreError as error:
        return Step(
            stage="vector", id=memory_id, at=None, facts={**marked, "error": f"{type(error).__name__}: {error}"}
        )
    return Step(stage="vector", id=memory_id, at=None, facts={**marked, "stored": bool(held)})


def _one(conn: Connection, table: SqlTable, **where: Any) -> dict[str, Any] | None:
    row = conn.execute(select(table).where(*(table.c[k] == v for k, v in where.items()))).mappings().first()
    return None if row is None else dict(row)


def _many(conn: Connection, table: SqlTable, **where: Any) -> list[dict[str, Any]]:
    query = select(table).where(*(table.c[k] == v for k, v in where.items())).order_by(table.c.id)
    return [dict(row) for row in conn.execute(query).mappings()]
