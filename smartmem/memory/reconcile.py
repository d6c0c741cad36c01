"""Reconciliation: the vector store is held against the SQL truth, both ways, and mended."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, select
from sqlalchemy.engine import Connection

from smartmem.db.engine import Database
from smartmem.db.tables import memory_items
from smartmem.errors import SmartMemError
from smartmem.frames import Tabular
from smartmem.jobs.types import Job, Prepared
from smartmem.memory.sync import MADE_BY, PAGE, Row, mark, memory_chunk, select_rows, send
from smartmem.rag.protocols import Embedder, VectorStore
from smartmem.rag.types import Chunk, Filter
from smartmem.types import JobType, MemoryStatus, VectorStatus


@dataclass(slots=True, kw_only=True)
class Drift(Tabular):
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

    Idempotent and resumable: it works in pages and looks at what is, not at what was done before.
    """
    drift = Drift(dry_run=dry_run)
    for rows in pages_of_active(db, *(() if user_id is None else (memory_items.c.user_id == user_id,))):
        drift.checked += len(rows)
        mend_missing(db, store, embedder, rows, drift)
    where = Filter() if user_id is None else Filter.where(user_id=user_id)
    for chunks in store.iterate(where, PAGE):
        _mend_orphans(db, store, embedder, [chunk.id for chunk in chunks], drift)
    return drift


def mend_missing(db: Database, store: VectorStore, embedder: Embedder, rows: Sequence[Row], drift: Drift) -> None:
    """Bring these active items into the store where they are missing there, stale, or of another embedder."""
    stored = {chunk.id: chunk for chunk in store.get([row["id"] for row in rows])}
    repair: list[Row] = []
    unmarked: dict[str, int] = {}
    for row in rows:
        chunk = stored.get(row["id"])
        if chunk is None:
            drift.note("missing", row["id"])
        elif chunk.text != row["content"] or not _same_metadata(chunk, row):
            drift.note("stale", row["id"])
        elif not {row["vector_fingerprint"], chunk.metadata.get(MADE_BY)} <= {None, embedder.fingerprint}:
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
    _take_back(db, store, [row["id"] for row in repair])
    versions = {row["id"]: row["version"] for row in repair} | unmarked
    if versions:
        db.run(lambda conn: mark(conn, versions, embedder.fingerprint, db.now()))
    drift.repaired += len(repair)


def _take_back(db: Database, store: VectorStore, sent: Sequence[str]) -> None:
    """Remove again what was deleted or forgotten between the reading of its row and the writing of its vector.

    A deletion after this look has an `embed` job that runs after what was sent.
    """
    if sent:
        store.delete(sorted(set(sent) - _live(db, sent)))


def _live(db: Database, ids: Sequence[str]) -> set[str]:
    c = memory_items.c
    with db.read() as conn:
        live = select(c.id).where(c.id.in_(list(ids)), c.status == MemoryStatus.ACTIVE.value)
        return set(conn.execute(live).scalars())


def _mend_orphans(db: Database, store: VectorStore, embedder: Embedder, ids: Sequence[str], drift: Drift) -> None:
    c = memory_items.c
    live = _live(db, ids)
    orphans = [item for item in ids if item not in live]
    for item in orphans:
        drift.note("orphaned", item)
    if orphans and not drift.dry_run:
        store.delete(orphans)
        with db.read() as conn:  # one that was restored in between must not stay out
            restored = select_rows().where(c.id.in_(orphans), c.status == MemoryStatus.ACTIVE.value)
            back = [dict(row) for row in conn.execute(restored).mappings()]
        send(store, embedder, back)
        _take_back(db, store, [row["id"] for row in back])
        drift.repaired += len(orphans)


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


def pages_of_active(db: Database, *conditions: ColumnElement[bool]) -> Iterator[list[Row]]:
    """The active items that meet all `conditions`, by id, in pages. Items written meanwhile may be among them."""
    c = memory_items.c
    last = ""
    while True:
        wanted = select_rows().where(c.status == MemoryStatus.ACTIVE.value, c.id > last, *conditions)
        with db.read() as conn:
            rows: list[Row] = [dict(row) for row in conn.execute(wanted.order_by(c.id).limit(PAGE)).mappings()]
        if not rows:
            return
        yield rows
        last = rows[-1]["id"]


def _same_metadata(chunk: Chunk, row: Row) -> bool:
    stored = {name: value for name, value in chunk.metadata.items() if name != MADE_BY}
    return stored == dict(memory_chunk(row).metadata)
