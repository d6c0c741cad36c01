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
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from sqlalchemy.engine import make_url

from smartmem.chat import history
from smartmem.clock import Clock
from smartmem.db.connect import read_url
from smartmem.db.engine import Database
from smartmem.errors import StoreUnavailable
from smartmem.frames import Rows
from smartmem.jobs.queue import JobQueue
from smartmem.memory import explain as accounts
from smartmem.memory import govern
from smartmem.memory import replay as replays
from smartmem.memory.recall import Mode, Recalled, Recaller
from smartmem.memory.reconcile import Drift, reconcile
from smartmem.memory.views import Page
from smartmem.outbox.queue import OutboxQueue
from smartmem.rag.protocols import Embedder, VectorStore
from smartmem.rag.registry import create
from smartmem.rag.store.deferred import DeferredStore
from smartmem.rag.types import Retrieval
from smartmem.settings import Settings
from smartmem.workbench.importing import import_file
from smartmem.workbench.reading import job_history, memory_latency, status
from smartmem.workbench.reports import DrainReport, ImportReport, JobHistory, Status, TurnHit, TurnHits
from smartmem.workbench.running import Runner, until_told
from smartmem.workbench.turns import TurnSearch

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["DrainReport", "ImportReport", "JobHistory", "Status", "TurnHit", "TurnHits", "Workbench"]


class Workbench:
    """A database with its components. Close it, or use it as a context manager; components load on first use."""

    def __init__(self, settings: Settings, db: Database) -> None:
        self.settings, self.db = settings, db
        self.jobs = JobQueue(db, settings.jobs)
        self.outbox = OutboxQueue(db, settings.outbox)
        self.runner = Runner(self)
        self._turns = TurnSearch(db)

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
        self._turns.close()
        self.db.close()

    # --- components, made when first asked for ------------------------------------------------------------------

    @functools.cached_property
    def embedder(self) -> Embedder:
        """The embedder of the settings."""
        made: Embedder = create("embedder", self.settings.embedder)
        return made

    @functools.cached_property
    def store(self) -> VectorStore:
        """The vector store of the settings. One that is away keeps nobody from starting; a wrong setting does."""
        dim = self.embedder.dim
        made = DeferredStore(lambda: create("store", self.store_spec, dim=dim), dim)
        made.try_open()
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
        return import_file(self.db, file, format)

    def drain(self, *, workers: int | None = None, wait: bool = True) -> DrainReport:
        """Relay events and work jobs until nothing is left; with `wait`, also those that wait for another try."""
        return self.runner.drain(workers=workers, wait=wait)

    def work(
        self, *, workers: int | None = None, stop: threading.Event | None = None, metrics_port: int | None = None
    ) -> DrainReport:
        """Relay and work until `stop` is set, or until SIGTERM or Ctrl-C when it is not given.

        `metrics_port`: Prometheus may ask this process there, on loopback, and each further worker process on the
        next port.
        """
        if stop is not None:
            return self.runner.run(stop, workers=workers, metrics_port=metrics_port)
        with until_told() as told:
            return self.runner.run(told, workers=workers, metrics_port=metrics_port)

    def reconcile(self, *, user_id: int | None = None, dry_run: bool = False) -> Drift:
        """Compare memories with the vector store, both ways, and mend the store."""
        return reconcile(self.db, self.store, self.embedder, user_id=user_id, dry_run=dry_run)

    def replay(
        self,
        into: str,
        *,
        extractor: Mapping[str, Any] | str | None = None,
        write_mode: replays.WriteMode | None = None,
        user_id: int | None = None,
    ) -> int:
        """Ask for the history to be extracted again into namespace `into`; returns how many jobs are new.

        `extractor` and `write_mode` are those of the settings unless given. `drain` or `work` then does the jobs.
        """
        return replays.replay(
            self.db,
            into,
            extractor=extractor or self.settings.extract.extractor,
            write_mode=write_mode or self.settings.memory.write.mode,
            user_id=user_id,
            max_chars=self.settings.extract.max_chars,
        )

    # --- reading ------------------------------------------------------------------------------------------------

    def memories(self, user_id: int, **filters: Any) -> Page:
        """A page of a user's memories, also `as_of` a time. See `smartmem.memory.govern.list_memories`."""
        return govern.list_memories(self.db, user_id, **filters)

    def diff(self, a: str, b: str, *, user_id: int | None = None) -> Rows[replays.Difference]:
        """What namespaces `a` and `b` remember differently, user by user."""
        return replays.diff(self.db, a, b, user_id=user_id)

    def explain(self, user_id: int, query: str, **options: Any) -> accounts.Explanation:
        """Of every memory of a user, why it would be used for a query, or why not."""
        return accounts.explain(self.recaller, user_id, query, **options)

    def lineage(self, user_id: int, memory_id: str) -> accounts.Lineage:
        """The way of one memory: message, event, job, decision, memory, audit, vector row."""
        return accounts.lineage(self.db, user_id, memory_id, store=self.store)

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
        return self._turns.search(user_id, query, k, {**self.settings.chat_search, **spec}, trace=trace)

    def messages(self, user_id: int) -> Rows[history.Message]:
        """The stored messages of one user, by time."""
        return Rows(history.messages(self.db, user_id=user_id))

    def status(self) -> Status:
        """States of events, jobs, memories and vectors, depth and age of what waits."""
        return status(self.db, self.outbox, self.jobs)

    def job_history(self) -> JobHistory:
        """Every state change of every job: throughput and latency charts come from it."""
        return job_history(self.db)

    def memory_latency(self) -> pd.DataFrame:
        """One row a memory that came from a message: when each was committed (`message_at`, `memory_at`, UTC)."""
        return memory_latency(self.db)


def must_exist(url: str) -> None:
    """Raise `StoreUnavailable` for a missing SQLite file, which opening would make: a mistyped name is no database."""
    parsed = read_url(url)
    if parsed.get_backend_name() == "sqlite" and parsed.database and not Path(parsed.database).exists():
        raise StoreUnavailable(
            f"there is no database {parsed.database}; `smartmem import FILE` makes one, or name another with --database"
        )
