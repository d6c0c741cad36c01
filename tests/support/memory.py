"""The memory chain in one object: say something, let it run, look at what is remembered."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

from sqlalchemy import select

from smartmem.chat.history import append_message
from smartmem.db.engine import Database
from smartmem.db.tables import memory_items, memory_jobs
from smartmem.jobs import enqueue as extract_events
from smartmem.jobs.types import Job
from smartmem.jobs.worker import WorkCounts, Worker
from smartmem.memory.candidates import SqlCandidates, VectorCandidates
from smartmem.memory.comparators import Comparator, create_comparator
from smartmem.memory.decide import Planner
from smartmem.memory.extract import Extractor, create_extractor
from smartmem.memory.facts import Fact
from smartmem.memory.handler import ExtractHandler
from smartmem.memory.normalise import content_hash
from smartmem.memory.recall import Recaller
from smartmem.memory.reconcile import ReconcileHandler
from smartmem.memory.sync import EmbedHandler
from smartmem.outbox.events import EventRegistry
from smartmem.outbox.relay import Relay
from smartmem.rag.registry import create
from smartmem.settings import ExtractSettings, JobSettings, OutboxSettings, WriteSettings
from smartmem.text import language
from tests.support.pipeline import START

DAY = dt.timedelta(days=1)


class Chain:
    """Messages in, memories out. Store and embedder are the exact NumPy store and the mock embedder."""

    def __init__(
        self,
        db: Database,
        mode: str = "decision",
        *,
        extractor: Extractor | None = None,
        comparator: Comparator | None = None,
        store: Any = None,
        embedder: Any = None,
        extract: ExtractSettings | None = None,
        vectors: bool = False,
    ) -> None:
        self.db = db
        self.jobs = JobSettings()
        self.embedder = embedder or create("embedder", "mock")
        self.store = store or create("store", {"name": "memory"}, dim=self.embedder.dim)
        write = WriteSettings(mode=mode)  # type: ignore[arg-type]  # the three words of the setting
        found = VectorCandidates(db, self.store, self.embedder) if vectors else SqlCandidates(db)
        planner = Planner(comparator=comparator or create_comparator("rules"), candidates=found)
        settings = extract or ExtractSettings()
        self.handler = ExtractHandler(
            db, extractor or create_extractor("rules"), planner, extract=settings, write=write
        )
        self.registry = EventRegistry()
        extract_events.register(self.registry, settings, self.jobs)
        self.recaller = Recaller(db, self.store, self.embedder)
        self._said = 0

    def say(self, text: str, user_id: int = 1, *, day: int = 0, speaker: str | None = None) -> str:
        """Append a user message, `day` days after the start; returns its id."""
        self._said += 1
        return append_message(
            self.db,
            user_id=user_id,
            conversation_id=f"c{user_id}",
            role="user",
            content=text,
            occurred_at=START + day * DAY + dt.timedelta(seconds=self._said),
            speaker=speaker,
        ).message_id

    def extract(self) -> WorkCounts:
        """Relay and extraction, without vector sync."""
        Relay(self.db, self.registry, OutboxSettings()).drain()
        return self._work(self.handler)

    def sync(self) -> WorkCounts:
        """Vector sync and reconciliation jobs."""
        return self._work(
            EmbedHandler(self.db, self.store, self.embedder), ReconcileHandler(self.db, self.store, self.embedder)
        )

    def run(self) -> WorkCounts:
        return self.extract() + self.sync()

    def hear(self, *texts: str, user_id: int = 1, day: int = 0) -> None:
        """Say, and let everything run."""
        for text in texts:
            self.say(text, user_id, day=day)
            self.run()

    def items(self, user_id: int = 1, **where: Any) -> list[Any]:
        """Rows of memory_items, oldest first."""
        c = memory_items.c
        query = select(memory_items).where(c.user_id == user_id, *(c[k] == v for k, v in where.items()))
        with self.db.read() as conn:
            return list(conn.execute(query.order_by(c.valid_from, c.id)))

    def active(self, user_id: int = 1) -> list[str]:
        return [row.content for row in self.items(user_id, status="active")]

    def rows(self, table: Any) -> list[Any]:
        with self.db.read() as conn:
            return list(conn.execute(select(table).order_by(*table.primary_key.columns)))

    def extract_jobs(self) -> list[Any]:
        return [row for row in self.rows(memory_jobs) if row.job_type == "extract"]

    def _work(self, *handlers: Any) -> WorkCounts:
        worker = Worker(self.db, handlers, self.jobs)
        try:
            return worker.drain()
        finally:
            worker.close()


def fact(content: str, memory_type: str = "fact", **changes: Any) -> Fact:
    """A checked fact for tests that begin behind the extractor."""
    values: dict[str, Any] = {
        "memory_type": memory_type,
        "title": content[:64],
        "content": content,
        "content_hash": content_hash(memory_type, content),
        "confidence": 0.8,
        "importance": 0.6,
        "sensitivity_level": 0,
        "is_explicit": False,
        "language": language(content),
        "valid_from": START,
    }
    return Fact(**(values | changes))


def row(content: str, memory_type: str = "fact", **changes: Any) -> dict[str, Any]:
    """A row of memory_items as far as comparators and deciders look at it."""
    values = {
        "id": f"m-{content[:20]}",
        "memory_type": memory_type,
        "content": content,
        "content_hash": content_hash(memory_type, content),
        "slot": None,
        "valid_from": START,
        "version": 1,
    }
    return values | changes


def job(payload: Mapping[str, Any], *, attempt: int = 1, max_retry: int = 6) -> Job:
    """A claimed extract job with this payload."""
    return Job(
        id=1,
        user_id=1,
        conversation_id="c1",
        source_message_id=None,
        source_event_id=None,
        job_type="extract",
        idempotency_key="k",
        payload={"user_id": 1, "source_text": "I like tea", "occurred_at": START.isoformat(), **payload},
        trace_id="t",
        attempt=attempt,
        max_retry=max_retry,
        created_at=START,
    )
