"""The one place that picks implementations and wires them: what notebooks and the command line hold.

    with smartmem.open("sqlite:///smartmem.db") as wb:
        wb.append(user_id=1, conversation_id="c1", role="user", content="I am allergic to peanuts.")
        wb.drain()
        wb.recall(1, "What may I not eat?").items

Everything below takes its parts as arguments; nothing below picks them.
"""

from __future__ import annotations

import datetime as dt
import functools
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from sqlalchemy import func, select
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from smartmem.chat import history
from smartmem.chat.importers import read_messages, scan
from smartmem.clock import Clock
from smartmem.db.engine import Database
from smartmem.db.tables import chat_messages, memory_items, memory_job_events, memory_jobs
from smartmem.errors import ConfigError, ScopeError, StoreUnavailable
from smartmem.jobs.queue import JobQueue
from smartmem.memory.recall import Mode, Recalled, Recaller
from smartmem.memory.sync import Drift, reconcile
from smartmem.outbox.queue import OutboxQueue
from smartmem.progress import bar
from smartmem.rag.embed import CachedEmbedder
from smartmem.rag.models import cache_dir
from smartmem.rag.pipeline import Pipeline
from smartmem.rag.presets import preset
from smartmem.rag.protocols import Embedder, VectorStore
from smartmem.rag.registry import create
from smartmem.rag.types import Document, Retrieval
from smartmem.settings import Settings
from smartmem.workbench.reports import DrainReport, ImportReport, JobHistory, Status, TurnHit, TurnHits
from smartmem.workbench.running import Runner, until_told

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["DrainReport", "ImportReport", "JobHistory", "Status", "TurnHit", "TurnHits", "Workbench"]

IMPORT_BATCH = 500


class Workbench:
    """A database with its components. Close it, or use it as a context manager; components load on first use."""

    def __init__(self, settings: Settings, db: Database) -> None:
        self.settings, self.db = settings, db
        self.jobs = JobQueue(db, settings.jobs)
        self.outbox = OutboxQueue(db, settings.outbox)
        self.runner = Runner(self)
        self._caches: dict[str, CachedEmbedder] = {}

    @classmethod
    def open(
        cls,
        database: str | None = None,
        *,
        settings: Settings | str | Path | None = None,
        create: bool = True,
        clock: Clock | None = None,
        **sections: Any,
    ) -> Self:
        """Open a database URL (default: the settings') and bring an empty one to the current schema.

        `settings`: a `Settings`, or a file. `sections` replace whole sections: `embedder={"name": "mock"}`.
        With `create=False` a missing SQLite file is an error instead of a new database.
        Raises `ConfigError` for bad settings, `StoreUnavailable` when the database cannot be reached.
        """
        known = settings if isinstance(settings, Settings) else Settings.load(settings)
        chosen = {key: value for key, value in sections.items() if value is not None}
        if database is not None:
            chosen["database_url"] = database
        if chosen:
            known = known.with_changes(chosen)
        if not create:
            must_exist(known.database_url)
        db = Database.open(known.database_url, clock)
        try:
            db.migrate_if_empty()
        except BaseException:
            db.close()
            raise
        return cls(known, db)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Workbench({self.database_name!r}, embedder={self.settings.embedder}, store={self.settings.store})"

    def _repr_html_(self) -> str:
        return self.status()._repr_html_()

    @property
    def database_name(self) -> str:
        """The URL with its password hidden."""
        return self.db.url

    def close(self) -> None:
        """Release the store and the database; closing twice is no error."""
        for name in ("store", "embedder"):
            part = self.__dict__.pop(name, None)
            if hasattr(part, "close"):
                part.close()
        while self._caches:
            self._caches.popitem()[1].close()
        self.db.close()

    # --- components, made when first asked for ------------------------------------------------------------------

    @functools.cached_property
    def embedder(self) -> Embedder:
        """The embedder of the settings."""
        made: Embedder = create("embedder", self.settings.embedder)
        return made

    @functools.cached_property
    def store(self) -> VectorStore:
        """The vector store of the settings."""
        made: VectorStore = create("store", self.store_spec, dim=self.embedder.dim)
        return made

    @property
    def store_spec(self) -> dict[str, Any]:
        """What makes the store; vectors kept on this machine lie beside the database unless the settings say where."""
        spec = dict(self.settings.store)
        if spec.get("name") == "memory":
            spec.setdefault("path", str(self._beside("vectors.db")))
        elif spec.get("name") == "milvus" and "uri" not in spec:
            spec.setdefault("path", str(self._beside("milvus")))
        return spec

    def _cached(self, spec: Any) -> Embedder:
        """An embedder behind the cache of vectors that all databases of this user share; kept open until close()."""
        key = repr(spec)
        if key not in self._caches:
            self._caches[key] = CachedEmbedder(spec, str(cache_dir() / "vectors.db"))
        return self._caches[key]

    def _beside(self, suffix: str) -> Path:
        """A place for vectors: beside an SQLite database under its name, else in the current folder."""
        url = make_url(self.settings.database_url)
        if url.get_backend_name() == "sqlite" and url.database:
            return Path(url.database).with_suffix(f".{suffix}")
        return Path(f"smartmem.{suffix}")

    @property
    def recaller(self) -> Recaller:
        """Recall over this database, store and embedder."""
        return Recaller(
            self.db, self.store, self.embedder, settings=self.settings.recall, mode=self.settings.memory.read.mode
        )

    # --- writing ------------------------------------------------------------------------------------------------

    def append(
        self,
        *,
        user_id: int,
        conversation_id: str,
        role: str,
        content: str,
        occurred_at: dt.datetime | None = None,
        **more: Any,
    ) -> history.Appended:
        """Store one message with its event, in one transaction; `occurred_at` is now unless given."""
        return history.append_message(
            self.db,
            user_id=user_id,
            conversation_id=conversation_id,
            role=role,
            content=content,
            occurred_at=occurred_at or self.db.now(),
            **more,
        )

    def import_file(self, file: str | Path, format: str) -> ImportReport:
        """Append every message of a conversation file, in batches; what is already there is left alone.

        The file is read to its end first: a bad record raises `DataError` and nothing is written. A message without
        a time is given the time of the import.
        """
        started = time.perf_counter()
        summary = scan(file, format)
        added = present = events = 0
        now = self.db.now()
        batch: list[history.NewMessage] = []
        refused: list[str] = []
        with bar("importing", summary.messages, "msg") as shown:

            def write() -> None:
                nonlocal added, present, events
                for message, done in zip(batch, history.append_messages(self.db, batch), strict=True):
                    if isinstance(done, history.Appended):
                        added += done.created
                        present += not done.created
                        events += done.event_id is not None
                    else:
                        refused.append(f"{message.conversation_id}/{message.client_message_id}: {done}")
                shown.update(len(batch))
                batch.clear()

            for message in read_messages(file, format, scanned=True):
                batch.append(
                    history.NewMessage(
                        user_id=message.user_id,
                        conversation_id=message.conversation_id,
                        role=message.role,
                        content=message.content,
                        occurred_at=message.occurred_at or now,
                        client_message_id=message.client_message_id,
                        speaker=message.speaker,
                    )
                )
                if len(batch) >= IMPORT_BATCH:
                    write()
            write()
        return ImportReport(
            file=str(file),
            format=format,
            read=summary.messages,
            conversations=summary.conversations,
            added=added,
            present=present,
            events=events,
            refused=tuple(refused),
            seconds=time.perf_counter() - started,
        )

    def drain(self, *, workers: int | None = None, wait: bool = True) -> DrainReport:
        """Relay events and work jobs until nothing is left; with `wait`, also those that wait for another try."""
        return self.runner.drain(workers=workers, wait=wait)

    def work(self, *, workers: int | None = None, stop: threading.Event | None = None) -> DrainReport:
        """Relay and work until `stop` is set, or until SIGTERM or Ctrl-C when it is not given."""
        if stop is not None:
            return self.runner.run(stop, workers=workers)
        with until_told() as told:
            return self.runner.run(told, workers=workers)

    def reconcile(self, *, user_id: int | None = None, dry_run: bool = False) -> Drift:
        """Compare memories with the vector store, both ways, and mend the store."""
        return reconcile(self.db, self.store, self.embedder, user_id=user_id, dry_run=dry_run)

    # --- reading ------------------------------------------------------------------------------------------------

    def recall(self, user_id: int, query: str, *, mode: Mode | None = None, **options: Any) -> Recalled:
        """The memories of one user for a query: scored, gated, budgeted. See `smartmem.memory.recall.Recaller`."""
        return self.recaller.recall(user_id, query, mode=mode, **options)

    def search_turns(self, user_id: int, query: str, *, k: int = 10, **spec: Any) -> TurnHits:
        """The chat turns of one user for a query, by the pipeline of `settings.chat_search` (`spec` changes parts)."""
        found = self.inspect_turns(user_id, query, k=k, trace=False, **spec)
        return TurnHits(
            query=query,
            hits=tuple(TurnHit.of(hit) for hit in found.hits),
            ms=found.ms,
            fallback_reason=found.fallback_reason,
        )

    def inspect_turns(self, user_id: int, query: str, *, k: int = 10, trace: bool = True, **spec: Any) -> Retrieval:
        """The same search with what each stage did in `.stages`: its candidates in order, scores, milliseconds.

        Indexes the user's messages first; vectors come from the cache after the first time.
        """
        if user_id <= 0:
            raise ScopeError(
                f"searching turns needs a user: user_id = {user_id}; turns are never searched across users"
            )
        turns = history.messages(self.db, user_id=user_id)
        wanted = {**self.settings.chat_search, **spec}
        full = {**preset(str(wanted.pop("preset"))), **wanted, "k": k} if "preset" in wanted else {**wanted, "k": k}
        cached = {"embedder": self._cached(full["embedder"])} if "embedder" in full else {}
        pipeline = Pipeline.from_spec(full, **cached)
        try:
            pipeline.ingest(_turn_document(turn) for turn in turns if turn.content.strip())
            return pipeline.retrieve(query, trace=trace)
        finally:
            pipeline.close()

    def messages(self, user_id: int) -> list[history.Message]:
        """The stored messages of one user, by time."""
        return history.messages(self.db, user_id=user_id)

    def status(self) -> Status:
        """States of events, jobs, memories and vectors, depth and age of what waits."""
        events, jobs = self.outbox.depth(), self.jobs.depth()
        item = memory_items.c
        with self.db.read() as conn:
            messages = conn.execute(select(func.count()).select_from(chat_messages)).scalar_one()
            memories = _counts(conn.execute(select(item.status, func.count()).group_by(item.status)).all())
            vectors = _counts(conn.execute(select(item.vector_status, func.count()).group_by(item.vector_status)).all())
        ages = [age for age in (events.oldest_age_s, jobs.oldest_age_s) if age is not None]
        return Status(
            database=self.database_name,
            messages=messages,
            events=events.by_status,
            jobs=jobs.by_status,
            memories=memories,
            vectors=vectors,
            unfinished=events.unfinished + jobs.unfinished,
            oldest_age_s=max(ages, default=None),
            dead_events=events.dead,
            dead_jobs=jobs.dead,
        )

    def job_history(self) -> JobHistory:
        """Every state change of every job: throughput and latency charts come from it."""
        event, job = memory_job_events.c, memory_jobs.c
        wanted = (
            select(
                event.job_id,
                job.job_type,
                job.user_id,
                event.from_status,
                event.to_status,
                event.at,
                event.attempt,
                event.worker_id,
                event.reason,
            )
            .join_from(memory_job_events, memory_jobs, event.job_id == job.id)
            .order_by(event.id)
        )
        with self.db.read() as conn:
            return JobHistory(rows=[dict(row._mapping) for row in conn.execute(wanted)])

    def memory_latency(self) -> pd.DataFrame:
        """One row a memory that came from a message: when each was committed (`message_at`, `memory_at`, UTC)."""
        import pandas as pd

        message, item = chat_messages.c, memory_items.c
        wanted = select(message.created_at, item.created_at).join_from(
            memory_items, chat_messages, item.source_message_id == message.id
        )
        with self.db.read() as conn:
            rows = [tuple(row) for row in conn.execute(wanted)]
        return pd.DataFrame(rows, columns=["message_at", "memory_at"])


def _turn_document(turn: history.Message) -> Document:
    return Document(
        id=turn.id,
        text=turn.content,
        metadata={
            "user_id": turn.user_id,
            "conversation_id": turn.conversation_id,
            "session_id": turn.conversation_id,
            "turn": turn.seq,
            "speaker": turn.speaker or turn.role,
            "date": turn.occurred_at.strftime("%d %B %Y"),
            "occurred_at": turn.occurred_at.isoformat(),
        },
    )


def _counts(rows: Any) -> Mapping[str, int]:
    return dict(rows)


def must_exist(url: str) -> None:
    """Raise `StoreUnavailable` for a missing SQLite file, which opening would make: a mistyped name is no database."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise ConfigError(
            f"database_url {url!r} is not a URL; write e.g. sqlite:///smartmem.db or "
            "mysql+pymysql://user:password@host/database"
        ) from None
    if parsed.get_backend_name() == "sqlite" and parsed.database and not Path(parsed.database).exists():
        raise StoreUnavailable(
            f"there is no database {parsed.database}; `smartmem import FILE` makes one, or name another with --database"
        )
