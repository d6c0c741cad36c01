"""Vector sync: the vector store follows the SQL truth, later and as often as it must (SPEC §7).

An `embed` job names items, not what to do with them: the handler looks at each one's state *now*, so a job that runs
late, twice, or after a deletion does what is right then. An item that is gone or no longer active leaves the store.
Jobs of one user share an order key, so that two of them never cross.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import bindparam, select, update
from sqlalchemy.engine import Connection

from smartmem.db.engine import Database
from smartmem.db.tables import memory_items
from smartmem.errors import BadRecord, SmartMemError
from smartmem.jobs.queue import enqueue
from smartmem.jobs.types import Job, Prepared
from smartmem.memory.apply import embed_job
from smartmem.rag.protocols import Embedder, VectorStore
from smartmem.rag.types import Chunk, Filter
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

Row = Mapping[str, Any]


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

    def prepare(self, jobs: Sequence[Job]) -> Sequence[Prepared | Exception]:
        wanted: list[list[str] | BadRecord] = [_item_ids(job) for job in jobs]
        ids = sorted({item for items in wanted if isinstance(items, list) for item in items})
        try:
            rows = self._read(ids)
            send(self._store, self._embedder, [row for row in rows.values() if _is_live(row)])
            self._store.delete([item for item in ids if item not in rows or not _is_live(rows[item])])
        except SmartMemError as error:  # one store for all: all of them are tried again
            return [items if isinstance(items, BadRecord) else error for items in wanted]
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
        return [
            Prepared(
                job=p.job, outcome=p.outcome, result={"upserted": len(p.value.present), "deleted": len(p.value.absent)}
            )
            if isinstance(p.value, Synced)
            else p
            for p in done
        ]

    def _read(self, ids: Sequence[str]) -> dict[str, Row]:
        with self._db.read() as conn:
            return {
                row["id"]: dict(row)
                for start in range(0, len(ids), PAGE)
                for row in conn.execute(_select().where(memory_items.c.id.in_(ids[start : start + PAGE]))).mappings()
            }


def send(store: VectorStore, embedder: Embedder, rows: Sequence[Row]) -> None:
    """Embed and upsert these items; durable when it returns."""
    if rows:
        chunks = [memory_chunk(row) for row in rows]
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


@dataclass(slots=True, kw_only=True)
class Drift:
    """What `reconcile` found and mended. `examples` names the first few ids of each kind."""

    checked: int = 0
    missing: int = 0  # active in SQL, not in the store (or under another text or metadata)
    stale: int = 0  # in the store under an older text or other metadata
    other_embedder: int = 0  # the stored vector was made by another embedder
    orphaned: int = 0  # in the store, not active in SQL
    repaired: int = 0
    dry_run: bool = False
    examples: dict[str, list[str]] = field(default_factory=dict)

    @property
    def clean(self) -> bool:
        """Whether both sides agreed."""
        return not (self.missing or self.stale or self.other_embedder or self.orphaned)

    def note(self, kind: str, item_id: str) -> None:
        setattr(self, kind, getattr(self, kind) + 1)
        shown = self.examples.setdefault(kind, [])
        if len(shown) < 5:
            shown.append(item_id)


def reconcile(
    db: Database, store: VectorStore, embedder: Embedder, *, user_id: int | None = None, dry_run: bool = False
) -> Drift:
    """Compare the SQL truth with the vector store, both ways, and mend the store. Safe beside running workers.

    Also the way to change the embedder: reconcile a fresh store, then switch to it. Idempotent and resumable: it
    works in pages and looks at what is, not at what was done before.
    """
    drift = Drift(dry_run=dry_run)
    for rows in _pages(db, user_id):
        drift.checked += len(rows)
        _mend_missing(db, store, embedder, rows, drift)
    where = Filter() if user_id is None else Filter.where(user_id=user_id)
    for chunks in store.iterate(where, PAGE):
        _mend_orphans(db, store, embedder, [chunk.id for chunk in chunks], drift)
    return drift


def _mend_missing(db: Database, store: VectorStore, embedder: Embedder, rows: Sequence[Row], drift: Drift) -> None:
    stored = {chunk.id: chunk for chunk in store.get([row["id"] for row in rows])}
    repair: list[Row] = []
    unmarked: dict[str, int] = {}
    for row in rows:
        chunk = stored.get(row["id"])
        if chunk is None:
            drift.note("missing", row["id"])
        elif chunk.text != row["content"] or not _same_metadata(chunk, row):
            drift.note("stale", row["id"])
        elif row["vector_fingerprint"] not in (None, embedder.fingerprint):
            drift.note("other_embedder", row["id"])
        elif row["vector_status"] == VectorStatus.SYNCED:
            continue
        elif row["vector_fingerprint"] == embedder.fingerprint:
            unmarked[row["id"]] = row["version"]  # right in the store, only the mark was lost
            continue
        else:
            drift.note("missing", row["id"])  # its vector is of unknown make
        repair.append(row)
    if drift.dry_run:
        return
    send(store, embedder, repair)
    versions = {row["id"]: row["version"] for row in repair} | unmarked
    if versions:
        db.run(lambda conn: mark(conn, versions, embedder.fingerprint, db.now()))
    drift.repaired += len(repair)


def _mend_orphans(db: Database, store: VectorStore, embedder: Embedder, ids: Sequence[str], drift: Drift) -> None:
    c = memory_items.c
    with db.read() as conn:
        live = set(
            conn.execute(select(c.id).where(c.id.in_(list(ids)), c.status == MemoryStatus.ACTIVE.value)).scalars()
        )
    orphans = [item for item in ids if item not in live]
    for item in orphans:
        drift.note("orphaned", item)
    if orphans and not drift.dry_run:
        store.delete(orphans)
        with db.read() as conn:  # one that was restored in between must not stay out
            back = conn.execute(_select().where(c.id.in_(orphans), c.status == MemoryStatus.ACTIVE.value)).mappings()
            send(store, embedder, [dict(row) for row in back])
        drift.repaired += len(orphans)


def request_sync(db: Database, user_id: int | None = None) -> int:
    """Enqueue `embed` jobs for every item whose vector is pending or failed; returns the number of items.

    For what was written while there was no worker for embed jobs, or whose jobs went dead with the store down.
    """
    c = memory_items.c
    waiting = c.vector_status.in_([VectorStatus.PENDING.value, VectorStatus.FAILED.value])
    query = select(c.user_id, c.id).where(waiting).order_by(c.user_id, c.id)
    if user_id is not None:
        query = query.where(c.user_id == user_id)
    with db.read() as conn:
        by_user: dict[int, list[str]] = {}
        for owner, item in conn.execute(query):
            by_user.setdefault(owner, []).append(item)
    jobs = [
        embed_job(owner, items[start : start + PAGE], "")
        for owner, items in by_user.items()
        for start in range(0, len(items), PAGE)
    ]
    if jobs:
        with db.begin() as conn:
            enqueue(conn, jobs)
    return sum(len(items) for items in by_user.values())


class ReconcileHandler:
    """Works `reconcile` jobs: the same repair as a background task, its report on the job."""

    job_type = JobType.RECONCILE.value
    sequential = True

    def __init__(self, db: Database, store: VectorStore, embedder: Embedder) -> None:
        self._db, self._store, self._embedder = db, store, embedder

    def prepare(self, jobs: Sequence[Job]) -> Sequence[Prepared | Exception]:
        return [self._one(job) for job in jobs]

    def _one(self, job: Job) -> Prepared | Exception:
        whole = bool(job.payload.get("all_users"))
        try:
            drift = reconcile(self._db, self._store, self._embedder, user_id=None if whole else job.user_id)
        except SmartMemError as error:
            return error
        return Prepared(job=job, result=report(drift))

    def apply(self, conn: Connection, done: Sequence[Prepared]) -> Sequence[Prepared]:
        return done  # the repair itself is idempotent and took place in `prepare`


def report(drift: Drift) -> dict[str, Any]:
    """The figures of a reconciliation, for a job's result or for JSON output."""
    return {
        "checked": drift.checked,
        "missing": drift.missing,
        "stale": drift.stale,
        "other_embedder": drift.other_embedder,
        "orphaned": drift.orphaned,
        "repaired": drift.repaired,
        "dry_run": drift.dry_run,
        "examples": drift.examples,
    }


def _pages(db: Database, user_id: int | None) -> Iterator[list[Row]]:
    c = memory_items.c
    last = ""
    while True:
        query = _select().where(c.status == MemoryStatus.ACTIVE.value, c.id > last).order_by(c.id).limit(PAGE)
        if user_id is not None:
            query = query.where(c.user_id == user_id)
        with db.read() as conn:
            rows: list[Row] = [dict(row) for row in conn.execute(query).mappings()]
        if not rows:
            return
        yield rows
        last = rows[-1]["id"]


def _select() -> Any:
    return select(*(memory_items.c[name] for name in _COLUMNS))


def _is_live(row: Row) -> bool:
    return bool(row["status"] == MemoryStatus.ACTIVE)


def _same_metadata(chunk: Chunk, row: Row) -> bool:
    return dict(chunk.metadata) == dict(memory_chunk(row).metadata)


def _synced(items: Sequence[str], rows: Mapping[str, Row]) -> Synced:
    live = {item: rows[item]["version"] for item in items if item in rows and _is_live(rows[item])}
    return Synced(present=live, absent=tuple(item for item in items if item not in live))


def _item_ids(job: Job) -> list[str] | BadRecord:
    items = job.payload.get("items")
    if isinstance(items, list) and all(isinstance(item, str) for item in items):
        return items
    return BadRecord(f"embed job {job.id}: payload has no list of item ids under 'items'")
