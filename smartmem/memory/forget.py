"""`forget`: the one hard deletion. It empties the memory's text wherever the chain has kept it, and says where.

Chat messages are the user's own history and are not touched; the report names those that still say it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import bindparam, delete, insert, or_, select, update
from sqlalchemy.engine import Connection

from smartmem.db.engine import Database
from smartmem.db.tables import (
    chat_messages,
    memory_audit_logs,
    memory_decisions,
    memory_items,
    memory_jobs,
    outbox_messages,
)
from smartmem.errors import ScopeError, StoreError
from smartmem.jobs.queue import enqueue
from smartmem.memory.apply import embed_job
from smartmem.memory.facts import EMPTIED
from smartmem.memory.govern import NoSuchMemory
from smartmem.memory.views import Forgotten
from smartmem.rag.protocols import VectorStore
from smartmem.text import normalise
from smartmem.types import Operation

_TEXT_KEYS = ("title", "content", "content_hash", "slot", "source_text", "text")


def forget(
    db: Database, user_id: int, memory_id: str, *, store: VectorStore | None = None, reason: str = "asked to forget"
) -> Forgotten:
    """Remove a memory for good: its row, and its text in audit rows, decisions, jobs, outbox events and vector store.

    The vector row goes twice: at once here (a store that is down is reported, not raised), and by an `embed` job
    behind any that is running, so that a sync in flight cannot bring it back. Raises `NoSuchMemory`.
    """
    if user_id <= 0:
        raise ScopeError(f"user_id = {user_id}: memories belong to a user with a positive number")
    done = db.run(lambda conn: _forget(conn, db, user_id, memory_id, reason))
    vectors, problem = 0, None
    if store is not None:
        try:
            vectors = len(store.get([memory_id]))
            store.delete([memory_id])
        except StoreError as error:
            problem = f"{type(error).__name__}: {error}; the embed job behind it will try again"
    return Forgotten(memory_id=memory_id, vectors=vectors, vector_error=problem, **done)


def _forget(conn: Connection, db: Database, user_id: int, memory_id: str, reason: str) -> dict[str, Any]:
    item = memory_items.c
    row = conn.execute(
        select(memory_items).where(item.id == memory_id, item.user_id == user_id).with_for_update()
    ).mappings().first()  # fmt: skip
    if row is None:
        raise NoSuchMemory(f"user {user_id} has no memory {memory_id!r}; list them to see the ids")
    said = normalise(row["content"])
    jobs = _jobs(conn, user_id, memory_id, row["source_job_id"], said)
    done = {
        "audit_rows": _empty_audit(conn, memory_id),
        "decisions": _empty_decisions(conn, user_id, memory_id, jobs, said),
        "jobs": _empty_jobs(conn, jobs),
        "events": _empty_events(conn, jobs, row["source_event_id"]),
        "messages_kept": _messages(conn, user_id, row["source_message_id"], jobs),
    }
    done["items"] = conn.execute(delete(memory_items).where(item.id == memory_id)).rowcount
    conn.execute(
        insert(memory_audit_logs),
        [
            {
                "memory_id": memory_id,
                "item_version": row["version"] + 1,
                "user_id": user_id,
                "operation": Operation.DELETE.value,
                "operator": "user",
                "reason": f"forget: {reason}"[:512],
                "before": None,
                "after": None,
                "job_id": None,
                "trace_id": row["trace_id"],
                "created_at": db.now(),
            }
        ],
    )
    enqueue(conn, [embed_job(user_id, [memory_id], row["trace_id"])])
    return done


def _jobs(conn: Connection, user_id: int, memory_id: str, source_job: int | None, said: str) -> list[Any]:
    """The jobs that named this memory or whose text says the same (a repeat leaves no other trace in legacy mode)."""
    d, j = memory_decisions.c, memory_jobs.c
    named = set(conn.execute(select(d.job_id).where(or_(d.target_id == memory_id, d.memory_id == memory_id))).scalars())
    named.add(source_job)
    audit = memory_audit_logs.c
    named |= set(conn.execute(select(audit.job_id).where(audit.memory_id == memory_id)).scalars())
    query = select(j.id, j.payload, j.source_event_id, j.source_message_id).where(
        j.user_id == user_id, j.job_type == "extract"
    )
    found = []
    for job in conn.execute(query):
        text = _loads(job.payload).get("source_text") or ""
        if job.id in named or (said and said in normalise(str(text))):
            found.append(job)
    return found


def _empty_audit(conn: Connection, memory_id: str) -> int:
    a = memory_audit_logs.c
    rows = conn.execute(select(a.id, a.before, a.after).where(a.memory_id == memory_id)).all()
    changed = [
        {"b_id": row.id, "v_before": _emptied(row.before), "v_after": _emptied(row.after)}
        for row in rows
        if row.before or row.after
    ]
    if changed:
        conn.execute(
            update(memory_audit_logs)
            .where(a.id == bindparam("b_id"))
            .values(before=bindparam("v_before"), after=bindparam("v_after")),
            changed,
        )
    return len(changed)


def _empty_decisions(conn: Connection, user_id: int, memory_id: str, jobs: Sequence[Any], said: str) -> int:
    d = memory_decisions.c
    mine = or_(d.target_id == memory_id, d.memory_id == memory_id, d.job_id.in_([job.id for job in jobs]))
    rows = conn.execute(select(d.id, d.fact, d.target_id, d.memory_id).where(d.user_id == user_id, mine)).all()
    changed = [
        {"b_id": row.id, "v_fact": _emptied(row.fact)}
        for row in rows
        if memory_id in (row.target_id, row.memory_id) or said in normalise(str(_loads(row.fact).get("content", "")))
    ]
    if changed:
        conn.execute(
            update(memory_decisions)
            .where(d.id == bindparam("b_id"))
            .values(fact=bindparam("v_fact"), reason=EMPTIED, fallback_reason=None),
            changed,
        )
    return len(changed)


def _empty_jobs(conn: Connection, jobs: Sequence[Any]) -> int:
    j = memory_jobs.c
    changed = [{"b_id": job.id, "v_payload": _emptied(job.payload)} for job in jobs]
    if changed:
        conn.execute(
            update(memory_jobs)
            .where(j.id == bindparam("b_id"))
            .values(payload=bindparam("v_payload"), last_error=None),
            changed,
        )
    return len(changed)


def _empty_events(conn: Connection, jobs: Sequence[Any], source_event: str | None) -> int:
    o = outbox_messages.c
    ids = {job.source_event_id for job in jobs} | {source_event}
    rows = conn.execute(select(o.id, o.payload).where(o.event_id.in_(sorted(e for e in ids if e)))).all()
    changed = [{"b_id": row.id, "v_payload": _emptied(row.payload)} for row in rows]
    if changed:
        conn.execute(
            update(outbox_messages)
            .where(o.id == bindparam("b_id"))
            .values(payload=bindparam("v_payload"), last_error=None),
            changed,
        )
    return len(changed)


def _messages(conn: Connection, user_id: int, source: str | None, jobs: Sequence[Any]) -> tuple[str, ...]:
    ids = sorted({m for m in (source, *(job.source_message_id for job in jobs)) if m})
    c = chat_messages.c
    return tuple(conn.execute(select(c.id).where(c.id.in_(ids), c.user_id == user_id).order_by(c.id)).scalars())


def _emptied(text: str | None) -> str | None:
    """The same JSON with its texts replaced; what is no JSON goes whole."""
    if text is None:
        return None
    value = _loads(text)
    if not value:
        return json.dumps({"text": EMPTIED})
    return json.dumps({k: EMPTIED if k in _TEXT_KEYS and v else v for k, v in value.items()}, ensure_ascii=False)


def _loads(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
