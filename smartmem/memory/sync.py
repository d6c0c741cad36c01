"""Vector sync: the vector store follows the SQL truth, later and as often as it must.

An `embed` job names items, not what to do with them: the handler looks at each one's state *now*, so a job that runs
late, twice, or after a deletion does what is right then. An item that is gone or no longer active leaves the store.
Jobs of one user share an order key, so that two of them never cross.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import bindparam, select, update
from sqlalchemy.engine import Connection

from smartmem.db.engine import Database
from smartmem.db.tables import memory_items
from smartmem.errors import BadRecord, SmartMemError, StoreUnavailable, TransientModelError
from smartmem.jobs.queue import enqueue
from smartmem.jobs.types import Job, Prepared
from smartmem.memory.apply import embed_job
from smartmem.rag.protocols import Embedder, VectorStore
from smartmem.rag.types import Chunk, Hit
from smartmem.types import JobType, MemoryStatus, Scalar, VectorStatus

_COLUMNS = (
    "id",
    "user_id",
    "namespace",
    "assistant_id",
    "conversation_id",
    "run_id",
    "memory_type",
    "content",
    "language",
    "status",
    "version",
    "vector_status",
    "vector_fingerprint",
    "sensitivity_level",
    "valid_from",
)
_FILTERABLE = ("user_id", "namespace", "assistant_id", "conversation_id", "run_id", "memory_type", "sensitivity_level")
PAGE = 500
MADE_BY = "embedder"  # in a stored chunk's metadata: the fingerprint of what made its vector

Row = Mapping[str, Any]


def other_embedder(hits: Iterable[Hit], embedder: Embedder) -> str | None:
    """Why these hits say nothing, if another embedder made their vectors: a cosine between two models' vectors is a
    number without meaning."""
    others = {str(hit.chunk.metadata.get(MADE_BY, embedder.fingerprint)) for hit in hits} - {embedder.fingerprint}
    if not others:
        return None
    return (
        f"OTHER_EMBEDDER: the vector store was filled by {min(others)}, the settings name {embedder.fingerprint}; "
        "run `smartmem reconcile` to embed the memories again"
    )


def memory_chunk(row: Row) -> Chunk:
    """A memory as the vector store holds it: its id, its text, and what recall filters by."""
    metadata: dict[str, Scalar] = {name: row[name] for name in _FILTERABLE if row[name] is not None}
    text: str = row["content"]
    return Chunk(id=row["id"], document_id=row["id"], start=0, end=len(text), text=text, order=0, metadata=metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class Synced:
    """What one job's items were when they went to the store; `apply` marks those that are still the same."""

    present: Mapping[str, int]  # id → version that was upserted
    absent: tuple[str, ...]  # ids that were deleted from the store


class EmbedHandler:
    """Works `embed` jobs, many in one call of the embedder and one of the store."""

    job_type = JobType.EMBED.value
    sequential = False

    def __init__(self, db: Database, store: VectorStore, embedder: Embedder) -> None:
        self._db, self._store, self._embedder = db, store, embedder
        self._away = False

    def prepare(self, jobs: Sequence[Job]) -> Sequence[Prepared | Exception]:
        wanted: list[list[str] | BadRecord] = [_item_ids(job) for job in jobs]
        ids = sorted({item for items in wanted if isinstance(items, list) for item in items})
        try:
            rows = self._read(ids)
            send(self._store, self._embedder, [row for row in rows.values() if _is_live(row)])
            self._store.delete([item for item in ids if item not in rows or not _is_live(rows[item])])
        except (StoreUnavailable, TransientModelError) as error:  # one store for all: all of them are tried again
            self._away = True
            self._give_up([job for job, items in zip(jobs, wanted, strict=True) if isinstance(items, list)])
            return [items if isinstance(items, BadRecord) else error for items in wanted]
        except SmartMemError as error:
            if len(jobs) > 1:  # only the one that cannot be embedded shall fail
                return [answer for job in jobs for answer in self.prepare([job])]
            return [error]
        return [
            items if isinstance(items, BadRecord) else Prepared(job=job, value=_synced(items, rows))
            for job, items in zip(jobs, wanted, strict=True)
        ]

    def apply(self, conn: Connection, done: Sequence[Prepared]) -> Sequence[Prepared]:
        """Mark what is still as it was sent; what changed meanwhile has an `embed` job of its own behind this one."""
        synced = [p.value for p in done if isinstance(p.value, Synced)]
        mark(conn, {k: v for s in synced for k, v in s.present.items()}, self._embedder.fingerprint, self._db.now())
        absent = [item for s in synced for item in s.absent]
        if absent:
            c = memory_items.c
            conn.execute(
                update(memory_items)
                .where(c.id.in_(absent), c.status != MemoryStatus.ACTIVE.value)
                .values(vector_status=VectorStatus.NONE.value, vector_fingerprint=None)
            )
        if self._away and synced:
            ask_again(conn)
            self._away = False
        return [
            Prepared(
                job=p.job, outcome=p.outcome, result={"upserted": len(p.value.present), "deleted": len(p.value.absent)}
            )
            if isinstance(p.value, Synced)
            else p
            for p in done
        ]

    def _give_up(self, jobs: Sequence[Job]) -> None:
        """Mark the items of jobs that go dead with this failure, so that they are asked for when the store is back."""
        items = {item for job in jobs if job.attempt >= job.max_retry for item in job.payload["items"]}
        if items:
            c = memory_items.c
            failed = update(memory_items).where(c.id.in_(sorted(items))).values(vector_status=VectorStatus.FAILED.value)
            self._db.run(lambda conn: conn.execute(failed))

    def _read(self, ids: Sequence[str]) -> dict[str, Row]:
        with self._db.read() as conn:
            return {
                row["id"]: dict(row)
                for start in range(0, len(ids), PAGE)
                for row in conn.execute(
                    select_rows().where(memory_items.c.id.in_(ids[start : start + PAGE]))
                ).mappings()
            }


def send(store: VectorStore, embedder: Embedder, rows: Sequence[Row]) -> None:
    """Embed and upsert these items, each with the name of its embedder; durable when it returns."""
    if rows:
        made_by = {MADE_BY: embedder.fingerprint}
        chunks = [replace(chunk, metadata={**chunk.metadata, **made_by}) for chunk in map(memory_chunk, rows)]
        store.upsert(chunks, embedder.embed_documents([chunk.text for chunk in chunks]))


def mark(conn: Connection, versions: Mapping[str, int], fingerprint: str, now: dt.datetime) -> None:
    """Set `synced` on items that are active and at the version that was sent; no audit row: nothing was changed."""
    if not versions:
        return
    c = memory_items.c
    conn.execute(
        update(memory_items)
        .where(c.id == bindparam("b_id"), c.version == bindparam("b_version"), c.status == MemoryStatus.ACTIVE.value)
        .values(vector_status=VectorStatus.SYNCED.value, vector_fingerprint=fingerprint),
        [{"b_id": item, "b_version": version} for item, version in sorted(versions.items())],
    )


def request_sync(db: Database, user_id: int | None = None) -> int:
    """Enqueue `embed` jobs for every item whose vector is pending or failed; returns the number of items.

    For what was written while there was no worker for embed jobs.
    """
    return db.run(lambda conn: ask_again(conn, (VectorStatus.PENDING, VectorStatus.FAILED), user_id))


def ask_again(
    conn: Connection, states: Sequence[VectorStatus] = (VectorStatus.FAILED,), user_id: int | None = None
) -> int:
    """Enqueue `embed` jobs for items whose jobs went dead while the store was away; returns the number of items.

    Each start of a worker and the first success after an outage do so. Jobs that went dead for another reason (a text
    that cannot be embedded, one that kills its worker) are not asked for again.
    """
    c = memory_items.c
    waiting = c.vector_status.in_([state.value for state in states])
    query = select(c.user_id, c.id).where(waiting).order_by(c.user_id, c.id)
    if user_id is not None:
        query = query.where(c.user_id == user_id)
    by_user: dict[int, list[str]] = {}
    for owner, item in conn.execute(query):
        by_user.setdefault(owner, []).append(item)
    jobs = [
        embed_job(owner, items[start : start + PAGE], "")
        for owner, items in by_user.items()
        for start in range(0, len(items), PAGE)
    ]
    if jobs:
        enqueue(conn, jobs)
    for job in jobs:
        asked = c.id.in_(job.payload["items"])
        conn.execute(update(memory_items).where(asked).values(vector_status=VectorStatus.PENDING.value))
    return sum(len(items) for items in by_user.values())


def select_rows() -> Any:
    """The columns that the vector store is made from, of all items."""
    return select(*(memory_items.c[name] for name in _COLUMNS))


def _is_live(row: Row) -> bool:
    return bool(row["status"] == MemoryStatus.ACTIVE)


def _synced(items: Sequence[str], rows: Mapping[str, Row]) -> Synced:
    live = {item: rows[item]["version"] for item in items if item in rows and _is_live(rows[item])}
    return Synced(present=live, absent=tuple(item for item in items if item not in live))


def _item_ids(job: Job) -> list[str] | BadRecord:
    items = job.payload.get("items")
    if isinstance(items, list) and all(isinstance(item, str) for item in items):
        return items
    return BadRecord(f"embed job {job.id}: payload has no list of item ids under 'items'")
