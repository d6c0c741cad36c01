"""`forget`: the one hard deletion. It empties the memory's text wherever the chain has kept it, and says where.

Chat messages are the user's own history and are not touched; the report names those that still say it.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping, Sequence, Set
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
from smartmem.errors import StoreError
from smartmem.jobs.queue import enqueue
from smartmem.memory.apply import embed_job
from smartmem.memory.facts import EMPTIED
from smartmem.memory.govern import NoSuchMemory, require_user
from smartmem.memory.views import Forgotten
from smartmem.rag.protocols import VectorStore
from smartmem.text import normalise
from smartmem.types import Operation

REASON, MESSAGES = "forget: ", "messages"  # how the audit row of a forgotten memory begins, and what it names
_TEXT_KEYS = ("title", "content", "content_hash", "slot", "source_text", "text")


def forget(
    db: Database, user_id: int, memory_id: str, *, store: VectorStore | None = None, reason: str = "asked to forget"
) -> Forgotten:
    """Remove a memory for good: its row, and its text in audit rows, decisions, jobs, outbox events and vector store.

    Whatever of the user's says the very same goes with it: what was deleted, replaced or merged before, and what a
    replay made. The vector row goes twice: at once here (a store that is down is reported, not raised), and by an
    `embed` job behind any that is running, so that a sync in flight cannot bring it back. Raises `NoSuchMemory`.
    """
    require_user(user_id)
    ids, done = db.run(lambda conn: _forget(conn, db, user_id, memory_id, reason))
    vectors, problem = 0, None
    if store is not None:
        try:
            vectors = len(store.get(ids))
            store.delete(ids)
        except StoreError as error:
            problem = f"{type(error).__name__}: {error}; the embed job behind it will try again"
    return Forgotten(memory_id=memory_id, vectors=vectors, vector_error=problem, **done)


def _forget(
    conn: Connection, db: Database, user_id: int, memory_id: str, reason: str
) -> tuple[list[str], dict[str, Any]]:
    """The ids that are gone, and what was emptied."""
    item = memory_items.c
    row = conn.execute(
        select(memory_items).where(item.id == memory_id, item.user_id == user_id).with_for_update()
    ).mappings().first()  # fmt: skip
    if row is None:
        raise NoSuchMemory(f"user {user_id} has no memory {memory_id!r}; list them to see the ids")
    same = select(memory_items).where(item.user_id == user_id, item.content_hash == row["content_hash"])
    rows = [dict(twin) for twin in conn.execute(same.order_by(item.id).with_for_update()).mappings()]
    ids = [twin["id"] for twin in rows]
    said = normalise(row["content"])
    jobs = _jobs(conn, user_id, ids, {twin["source_job_id"] for twin in rows}, said)
    sources = {twin["source_message_id"] for twin in rows}
    kept = _messages(conn, user_id, sources, jobs)
    done = {
        "audit_rows": _empty_audit(conn, ids),
        "decisions": _empty_decisions(conn, user_id, ids, jobs, said),
        "jobs": _empty_jobs(conn, jobs),
        "events": _empty_events(conn, jobs, {twin["source_event_id"] for twin in rows}),
        "messages_kept": kept,
    }
    done["items"] = conn.execute(delete(memory_items).where(item.id.in_(ids))).rowcount
    conn.execute(insert(memory_audit_logs), [_audit_row(twin, reason, kept, db.now()) for twin in rows])
    enqueue(conn, [embed_job(user_id, ids, row["trace_id"])])
    return ids, done


def messages_of_forgotten(conn: Connection, user_id: int | None = None) -> set[str]:
    """The messages that still say what was forgotten, by id: audit rows keep them longer than jobs are kept."""
    a = memory_audit_logs.c
    query = select(a.after).where(a.operation == Operation.DELETE.value, a.reason.startswith(REASON))
    if user_id is not None:
        query = query.where(a.user_id == user_id)
    rows = conn.execute(query.where(a.after.is_not(None))).scalars()
    return {message for after in rows for message in _loads(after).get(MESSAGES, ())}


def _audit_row(row: Mapping[str, Any], reason: str, messages: Sequence[str], now: dt.datetime) -> dict[str, Any]:
    """No text of the memory; the ids of the messages that still say it, so that no replay reads them again."""
    return {
        "memory_id": row["id"],
        "item_version": row["version"] + 1,
        "user_id": row["user_id"],
        "operation": Operation.DELETE.value,
        "operator": "user",
        "reason": f"{REASON}{reason}"[:512],
        "before": None,
        "after": json.dumps({MESSAGES: list(messages)}) if messages else None,
        "job_id": None,
        "trace_id": row["trace_id"],
        "created_at": now,
    }


def _jobs(conn: Connection, user_id: int, ids: Sequence[str], sources: Set[int | None], said: str) -> list[Any]:
    """The jobs that named these memories or whose text says the same (in legacy mode repeats leave no other trace)."""
    d, j = memory_decisions.c, memory_jobs.c
    named = set(conn.execute(select(d.job_id).where(or_(d.target_id.in_(ids), d.memory_id.in_(ids)))).scalars())
    named |= sources
    audit = memory_audit_logs.c
    named |= set(conn.execute(select(audit.job_id).where(audit.memory_id.in_(ids))).scalars())
    query = select(j.id, j.payload, j.source_event_id, j.source_message_id).where(
        j.user_id == user_id, j.job_type == "extract"
    )
    found = []
    for job in conn.execute(query):
        text = _loads(job.payload).get("source_text") or ""
        if job.id in named or (said and said in normalise(str(text))):
            found.append(job)
    return found


def _empty_audit(conn: Connection, ids: Sequence[str]) -> int:
    a = memory_audit_logs.c
    rows = conn.execute(select(a.id, a.before, a.after).where(a.memory_id.in_(ids))).all()
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


def _empty_decisions(conn: Connection, user_id: int, ids: Sequence[str], jobs: Sequence[Any], said: str) -> int:
    d = memory_decisions.c
    mine = or_(d.target_id.in_(ids), d.memory_id.in_(ids), d.job_id.in_([job.id for job in jobs]))
    rows = conn.execute(select(d.id, d.fact, d.target_id, d.memory_id).where(d.user_id == user_id, mine)).all()
    changed = [
        {"b_id": row.id, "v_fact": _emptied(row.fact)}
        for row in rows
        if {row.target_id, row.memory_id} & set(ids) or said in normalise(str(_loads(row.fact).get("content", "")))
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


def _empty_events(conn: Connection, jobs: Sequence[Any], sources: Set[str | None]) -> int:
    o = outbox_messages.c
    ids = {job.source_event_id for job in jobs} | sources
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


def _messages(conn: Connection, user_id: int, sources: Set[str | None], jobs: Sequence[Any]) -> tuple[str, ...]:
    ids = sorted({m for m in (*sources, *(job.source_message_id for job in jobs)) if m})
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
