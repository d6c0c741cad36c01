"""An idle system is quiet, and new work starts at once."""

from __future__ import annotations

import contextlib
import os
import resource
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import event, insert

from smartmem.chat.history import append_message
from smartmem.db.engine import Database
from smartmem.db.tables import memory_jobs
from smartmem.jobs.queue import enqueue
from smartmem.jobs.types import Job
from smartmem.jobs.worker import Worker
from smartmem.outbox.relay import Relay
from smartmem.settings import JobSettings, OutboxSettings
from tests.support import story
from tests.support.handlers import ScriptedHandler
from tests.support.net import poll
from tests.support.pipeline import START, job, statuses


class Running:
    """A relay and a worker in threads; `started` holds when each job reached its handler."""

    def __init__(self, url: str, **changes: Any) -> None:
        self.db = Database.open(url)
        self.started: list[float] = []
        self._stop = threading.Event()
        jobs = JobSettings(**changes)
        relay = Relay(self.db, story.registry(jobs), OutboxSettings())
        worker = Worker(self.db, [ScriptedHandler(self._note, job_type=kind) for kind in _KINDS], jobs)
        self._threads = [
            threading.Thread(target=lambda: relay.run(self._stop, poll_s=jobs.poll_s)),
            threading.Thread(target=lambda: worker.run(self._stop)),
        ]
        for thread in self._threads:
            thread.start()

    def _note(self, _job: Job) -> None:
        self.started.append(time.monotonic())

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(10)
        self.db.close()


_KINDS = ("extract", "embed", "reconcile")


@pytest.fixture
def running(any_url: str) -> Iterator[Running]:
    made = Running(any_url)
    yield made
    made.stop()


def test_an_idle_process_asks_twice_a_second(running: Running) -> None:
    statements: list[str] = []

    def note(_conn: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        statements.append(statement)

    with running.db.begin() as conn:
        enqueue(conn, [job(1)])
    assert poll(lambda: statuses(running.db) == ["success"], seconds=10)
    threading.Event().wait(0.5)  # the claim that found nothing more
    event.listen(running.db.engine, "before_cursor_execute", note)
    begun = time.monotonic()
    threading.Event().wait(3)
    rate = len(statements) / (time.monotonic() - begun)
    event.remove(running.db.engine, "before_cursor_execute", note)
    assert rate <= 2.1, statements


def test_a_message_reaches_its_job_without_a_poll(any_url: str) -> None:
    """From another Database, as from another process. A poll would come an hour later: only the bell can wake them,
    the relay for the event and the worker for the job. benchmarks/ has how long it takes."""
    running, other = Running(any_url, poll_s=3600.0), Database.open(any_url)
    try:
        for n in range(5):
            append_message(other, user_id=1, conversation_id="c", role="user", content=f"fact {n}", occurred_at=START)
            assert poll(lambda n=n: len(running.started) > n, seconds=60)
    finally:
        running.stop()
        other.close()


def test_work_that_nobody_announced_is_found_by_the_poll(running: Running) -> None:
    with running.db.begin() as conn:
        enqueue(conn, [job(1)])
    assert poll(lambda: len(running.started) == 1, seconds=10)
    now = running.db.now()
    with running.db.begin() as conn:  # as a program that knows nothing of the doorbell would
        conn.execute(
            insert(memory_jobs).values(
                user_id=2,
                job_type="extract",
                idempotency_key="raw",
                payload="{}",
                trace_id="t",
                job_key="u2",
                order_key="u2",
                status="pending",
                retry_count=0,
                max_retry=6,
                due_at=now,
                created_at=now,
                updated_at=now,
            )
        )
    assert poll(lambda: len(running.started) == 2, seconds=5)


def test_the_bell_is_heard_beyond_a_thousand_open_files(sqlite_url: str) -> None:
    """select() refuses descriptors from 1,024 on; a service with many connections has them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2_000:
        pytest.skip(f"this system allows {hard} open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2_000), hard))
    try:
        with contextlib.ExitStack() as stack:
            while stack.enter_context(open(os.devnull)).fileno() < 1_024:
                pass
            db = Database.open(sqlite_url)
            stack.callback(db.close)
            bell = stack.enter_context(db.bell.listen())
            assert bell.wait(0.01) is False
            db.bell.ring()
            assert bell.wait(60) is True
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
