"""The one place that picks implementations and wires them: what notebooks and the command line hold.

    with smartmem.open("sqlite:///smartmem.db") as wb:
        wb.append(user_id=1, conversation_id="c1", role="user", content="I am allergic to peanuts.")
        wb.drain()
        wb.recall(1, "What may I not eat?").items

Everything below takes its parts as arguments; nothing below picks them.
"""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from smartmem.chat import history
from smartmem.clock import Clock
from smartmem.db.connect import read_url
from smartmem.db.engine import Database
from smartmem.errors import StoreUnavailable
from smartmem.frames import Rows
from smartmem.jobs.queue import JobQueue
from smartmem.memory import replay as replays
from smartmem.memory.reconcile import Drift, reconcile
from smartmem.outbox.queue import OutboxQueue
from smartmem.rag.registry import Spec
from smartmem.rag.types import Retrieval
from smartmem.settings import Settings
from smartmem.viz.live import LiveStates, live_states
from smartmem.workbench.background import Background
from smartmem.workbench.control import Control
from smartmem.workbench.importing import import_file
from smartmem.workbench.reading import job_history, memory_latency, status
from smartmem.workbench.reports import DrainReport, ImportReport, JobHistory, Status, TurnHit, TurnHits
from smartmem.workbench.running import Runner, until_told
from smartmem.workbench.turns import TurnSearch

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["DrainReport", "ImportReport", "JobHistory", "Status", "TurnHit", "TurnHits", "Workbench"]


class Workbench(Control):
    """A database with its components. Close it, or use it as a context manager; components load on first use."""

    def __init__(self, settings: Settings, db: Database) -> None:
        super().__init__(settings, db)
        self.jobs = JobQueue(db, settings.jobs)
        self.outbox = OutboxQueue(db, settings.outbox)
        self.runner = Runner(self)
        self._turns = TurnSearch(db)
        self._working: list[Background] = []

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

        `settings`: a `Settings`, or a file. `sections` replace whole sections: `embedder={"name": "mock"}`
        (`smartmem.open` lists them).
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
        """End background work, release the store and the database; closing twice is no error."""
        for work in self._working:
            work.end()
        self._working.clear()
        for name in ("store", "embedder"):
            part = self.__dict__.pop(name, None)
            if hasattr(part, "close"):
                part.close()
        self._turns.close()
        self.db.close()

    # --- writing ------------------------------------------------------------------------------------------------

    def append(
        self,
        *,
        user_id: int,
        conversation_id: str,
        role: str,
        content: str,
        occurred_at: dt.datetime | None = None,
        client_message_id: str | None = None,
        assistant_id: str | None = None,
        speaker: str | None = None,
        run_id: str | None = None,
        trace_id: str | None = None,
    ) -> history.Appended:
        """Store one message with its event, in one transaction; `occurred_at` is now unless given.

        One with a `client_message_id` that its conversation already has is not stored again (`created` is False).
        Raises `BadRecord` for what cannot be stored; then nothing is.
        """
        return history.append_message(
            self.db,
            user_id=user_id,
            conversation_id=conversation_id,
            role=role,
            content=content,
            occurred_at=occurred_at or self.db.now(),
            client_message_id=client_message_id,
            assistant_id=assistant_id,
            speaker=speaker,
            run_id=run_id,
            trace_id=trace_id,
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

    def start(self, *, workers: int | None = None) -> Background:
        """Relay and work in the background, so that the notebook stays usable; `.stop()` ends it, and so does `close`.

        Raises at once what keeps the store or the embedder from being made.
        """
        self.store  # noqa: B018 - made here, where an error is seen
        self._working.append(Background(self, workers))
        return self._working[-1]

    def live(self, *, every_s: float = 0.5) -> LiveStates:
        """Show the jobs by state for the length of a `with` block: a widget in a notebook, else a line of text."""
        return live_states(lambda: self.status().jobs, every_s=every_s)

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

    def diff(self, a: str, b: str, *, user_id: int | None = None) -> Rows[replays.Difference]:
        """What namespaces `a` and `b` remember differently, user by user."""
        return replays.diff(self.db, a, b, user_id=user_id)

    def search_turns(
        self,
        user_id: int,
        query: str,
        *,
        k: int = 10,
        preset: str | None = None,
        chunker: Spec | None = None,
        embedder: Spec | None = None,
        retriever: Spec | None = None,
        reranker: Spec | None = None,
        candidates: int | None = None,
        threshold: float | None = None,
    ) -> TurnHits:
        """The chat turns of one user for a query, by the pipeline of `settings.chat_search`.

        `preset` is `fast`, `balanced` or `quality`; a part that is given takes the place of the pipeline's.
        """
        given = {"preset": preset, "chunker": chunker, "embedder": embedder, "retriever": retriever,
                 "reranker": reranker, "candidates": candidates, "threshold": threshold}  # fmt: skip
        spec = {name: value for name, value in given.items() if value is not None}
        found = self.inspect_turns(user_id, query, k=k, trace=False, **spec)
        return TurnHits(
            query=query,
            hits=tuple(TurnHit.of(hit) for hit in found.hits),
            ms=found.ms,
            fallback_reason=found.fallback_reason,
        )

    def inspect_turns(self, user_id: int, query: str, *, k: int = 10, trace: bool = True, **spec: Any) -> Retrieval:
        """The same search (`spec` as there) with what each stage did in `.stages`: candidates in order, scores, ms.

        The user's messages are indexed at the first question and kept for the next one, which adds what is new.
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
