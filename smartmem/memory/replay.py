"""Another extractor or decision mode over the same history, into a namespace of its own; and what differs then.

A replay is ordinary `extract` jobs that name their namespace, extractor and write mode: they are leased, retried and
audited like all others, and touch nothing of the main memories. Running it again enqueues nothing twice.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import select
from sqlalchemy.engine import Connection

from smartmem.db.engine import Database
from smartmem.db.tables import chat_messages, conversations, memory_items, memory_jobs
from smartmem.errors import ConfigError
from smartmem.frames import Rows, Tabular
from smartmem.jobs.enqueue import extract_order_key
from smartmem.jobs.queue import enqueue
from smartmem.jobs.types import NewJob
from smartmem.memory.extract import create_extractor
from smartmem.memory.facts import EMPTIED, NAMESPACE
from smartmem.memory.forget import messages_of_forgotten
from smartmem.memory.similarity import similarity
from smartmem.text import clean, cut, sha256
from smartmem.types import JobType, MemoryStatus, Role

PAGE = 500
SAME = 0.8  # share of common words from which two memories count as the same, otherwise worded
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")

WriteMode = Literal["legacy", "shadow", "decision"]


def replay(
    db: Database,
    into: str,
    *,
    extractor: Mapping[str, Any] | str | None = None,
    write_mode: WriteMode | None = None,
    user_id: int | None = None,
    max_chars: int = 1500,
) -> int:
    """Enqueue one `extract` job for each user message of the history, in order; returns how many are new.

    `extractor` and `write_mode` default to those of the worker that will do them. Raises `ConfigError` for the name of
    the main namespace or one that cannot be a name, and for an extractor that cannot be made.
    """
    if into == NAMESPACE or not _NAME.fullmatch(into):
        raise ConfigError(f"replay into {into!r}: write a name of its own, small letters, digits, '.', '_' or '-'")
    spec = {"name": extractor} if isinstance(extractor, str) else dict(extractor) if extractor else None
    if spec is not None:
        create_extractor(spec)  # a wrong name is told now, and not by a thousand failed jobs
    new = 0
    for page in _messages(db, user_id):
        jobs = [_job(row, into, spec, write_mode, max_chars) for row in page]
        new += db.run(lambda conn, jobs=jobs: enqueue(conn, jobs))  # type: ignore[misc]  # bound in this round
    return new


def _job(
    row: Mapping[str, Any], into: str, spec: dict[str, Any] | None, write_mode: str | None, max_chars: int
) -> NewJob:
    text, was_cut = cut(clean(row["content"])[0], max_chars)
    how = sha256(f"{into}\n{spec}\n{write_mode}")[:12]
    return NewJob(
        user_id=row["user_id"],
        job_type=JobType.EXTRACT.value,
        idempotency_key=f"replay:{how}:{row['id']}",
        order_key=extract_order_key(row["user_id"]),
        conversation_id=row["conversation_id"],
        source_message_id=row["id"],
        trace_id=row["trace_id"],
        payload={
            "user_id": row["user_id"],
            "conversation_id": row["conversation_id"],
            "assistant_id": row["assistant_id"],
            "run_id": row["run_id"],
            "source_message_id": row["id"],
            "source_role": row["role"],
            "source_text": text,
            "cut": was_cut,
            "occurred_at": row["occurred_at"].isoformat(),
            "speaker": row["speaker"],
            "trace_id": row["trace_id"],
            "namespace": into,
            "extractor": spec,
            "write_mode": write_mode,
        },
    )


def _messages(db: Database, user_id: int | None) -> Iterator[list[dict[str, Any]]]:
    """The user messages with text, each user's in order of time, in pages; those of forgotten memories are left out."""
    m = chat_messages.c
    query = (
        select(chat_messages, conversations.c.assistant_id)
        .join_from(chat_messages, conversations, m.conversation_id == conversations.c.id)
        .where(m.role == Role.USER.value, m.content != "")
        .order_by(m.user_id, m.occurred_at, m.conversation_id, m.seq)
    )
    if user_id is not None:
        query = query.where(conversations.c.user_id == user_id)  # which has the index
    with db.read() as conn:
        gone = _forgotten(conn, user_id) | messages_of_forgotten(conn, user_id)
        found = conn.execution_options(yield_per=PAGE).execute(query).mappings()
        page: list[dict[str, Any]] = []
        for row in found:
            if row["content"].strip() and row["id"] not in gone:
                page.append(dict(row))
            if len(page) == PAGE:
                yield page
                page = []
        if page:
            yield page


def _forgotten(conn: Connection, user_id: int | None) -> set[str]:
    """The messages whose jobs `forget` has emptied: what they said must not come back by another way.

    The audit rows name them too and outlast the jobs, which are pruned; those of an older version do not.
    """
    j = memory_jobs.c
    query = select(j.source_message_id, j.payload).where(
        j.job_type == JobType.EXTRACT.value,
        j.source_message_id.is_not(None),
        j.payload.contains(EMPTIED, autoescape=True),
    )
    if user_id is not None:
        query = query.where(j.user_id == user_id)
    return {row.source_message_id for row in conn.execute(query) if json.loads(row.payload)["source_text"] == EMPTIED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference(Tabular):
    """Active memories of two namespaces, user by user. `reworded`: alike, but not the same words."""

    user_id: int
    both: tuple[str, ...]
    reworded: tuple[tuple[str, str], ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]


def diff(db: Database, a: str, b: str, *, user_id: int | None = None) -> Rows[Difference]:
    """What is remembered in namespace `a` and not in `b`, and the other way round; users in order."""
    left, right = _active(db, a, user_id), _active(db, b, user_id)
    return Rows(
        _difference(user, left.get(user, {}), right.get(user, {})) for user in sorted(left.keys() | right.keys())
    )


def _active(db: Database, namespace: str, user_id: int | None) -> dict[int, dict[str, str]]:
    """user → content hash → content."""
    c = memory_items.c
    query = select(c.user_id, c.content_hash, c.content).where(
        c.namespace == namespace, c.status == MemoryStatus.ACTIVE.value
    )
    if user_id is not None:
        query = query.where(c.user_id == user_id)
    found: dict[int, dict[str, str]] = {}
    with db.read() as conn:
        for owner, digest, content in conn.execute(query.order_by(c.valid_from, c.id)):
            found.setdefault(owner, {})[digest] = content
    return found


def _difference(user_id: int, left: Mapping[str, str], right: Mapping[str, str]) -> Difference:
    only_a = [text for digest, text in left.items() if digest not in right]
    only_b = [text for digest, text in right.items() if digest not in left]
    reworded: list[tuple[str, str]] = []
    for text in list(only_a):
        twin = max(only_b, key=lambda other: (similarity(text, other), other), default=None)
        if twin is not None and similarity(text, twin) >= SAME:
            reworded.append((text, twin))
            only_a.remove(text)
            only_b.remove(twin)
    return Difference(
        user_id=user_id,
        both=tuple(text for digest, text in left.items() if digest in right),
        reworded=tuple(reworded),
        only_a=tuple(only_a),
        only_b=tuple(only_b),
    )
