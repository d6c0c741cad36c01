"""A small history of the pipeline that a test can cut short anywhere, its recovery, and what must hold afterwards.

Used by the crash tests (die at every statement), the contention test and the restart test.
"""

from __future__ import annotations

import datetime as dt
import itertools
import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from sqlalchemy import select

from smartmem.chat import history
from smartmem.chat.history import NewMessage
from smartmem.clock import ManualClock
from smartmem.db.engine import Database
from smartmem.db.tables import (
    chat_messages,
    conversations,
    memory_audit_logs,
    memory_items,
    memory_job_events,
    memory_jobs,
    outbox_messages,
)
from smartmem.errors import DataError, TransientModelError
from smartmem.jobs import enqueue
from smartmem.jobs.types import Job, Prepared
from smartmem.jobs.worker import Worker
from smartmem.outbox.events import EventRegistry
from smartmem.outbox.relay import Relay
from smartmem.settings import ExtractSettings, JobSettings, OutboxSettings
from tests.support.handlers import FactHandler
from tests.support.pipeline import START, message

POISON = "poison: no attempt can ever work this"
SHAKY = "shaky: fails at first"
EXTRACT = "memory.extract.requested"

LEGAL = {
    (None, "pending"),
    ("pending", "processing"),
    ("failed", "processing"),
    ("processing", "processing"),  # the lease expired
    ("processing", "success"),
    ("processing", "failed"),
    ("processing", "dead"),
    ("processing", "pending"),  # released
    ("dead", "pending"),  # replayed
}


class StoryHandler(FactHandler):
    """One fact a job; a poison text is dead for good, a shaky one fails at its first attempt."""

    def one(self, job: Job) -> Prepared | Exception:
        text = job.payload["source_text"]
        if text == POISON:
            return DataError("poison")
        if text == SHAKY and job.attempt == 1:
            return TransientModelError("try again")
        return super().one(job)


def settings(**changes: Any) -> tuple[OutboxSettings, JobSettings]:
    outbox = {"batch": 3, "backoff_s": (0,)} | changes
    jobs = {"batch": 2, "backoff_s": (0,)} | changes
    return OutboxSettings(**outbox), JobSettings(**jobs)


def registry(jobs: JobSettings) -> EventRegistry:
    made = EventRegistry()
    history.register(made)
    enqueue.register(made, ExtractSettings(), jobs)
    return made


def wanted() -> list[NewMessage]:
    """What the clients want stored, each with a client id, so that they may send it again."""
    return [
        message(1, "first fact", client_message_id="1"),
        message(2, SHAKY, client_message_id="2"),
        message(2, "after the shaky one", client_message_id="3"),
        message(1, POISON, client_message_id="4"),
        message(1, "the fact, changed", client_message_id="5"),
        message(3, "an answer", client_message_id="6", role="assistant"),
        message(3, "by event", client_message_id="7"),
    ]


def send(db: Database, acknowledge: Any = None) -> None:
    """Clients send: one by one, in bulk, by event; one resends, and one transaction is taken back."""
    tell = acknowledge or (lambda *names: None)
    one, *several, last = wanted()
    history.append_messages(db, [one])
    tell("1")
    history.append_messages(db, [one])
    history.append_messages(db, several)
    tell(*"23456")
    with db.begin() as conn:
        history.request_persist(conn, last)
    tell("7")
    if acknowledge:
        try:
            with db.begin() as conn:
                history.append_messages(conn, [message(9, "never meant")])
                raise ZeroDivisionError
        except ZeroDivisionError:
            pass


def work(db: Database) -> None:
    outbox, jobs = settings()
    relay = Relay(db, registry(jobs), outbox, worker_id="relay")
    worker = Worker(db, [StoryHandler()], jobs, worker_id="worker")
    for _ in range(4):  # a persisted message asks for extraction only then
        relay.drain()
        worker.drain()
    worker.close()


def whole(url: str, acks: str) -> None:
    """The whole story, with the acknowledgements that clients got in the file `acks`. Dies where it is told to."""
    out = os.open(acks, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    db = Database.open(url, clock=ManualClock(START))
    send(db, lambda *names: os.write(out, "".join(f"{name}\n" for name in names).encode()))
    work(db)
    os.close(out)
    db.close()


def later(url: str) -> Database:
    """The database an hour later, when every lease of the story has ended."""
    return Database.open(url, clock=ManualClock(START + dt.timedelta(hours=1)))


def recover(db: Database) -> None:
    """Clients resend what they got no answer for (here: all), and another process drains."""
    send(db)
    work(db)


def stored(db: Database) -> set[str]:
    """Client ids of what is committed."""
    with db.read() as conn:
        found = set(conn.execute(select(chat_messages.c.client_message_id)).scalars())
        asked = conn.execute(select(outbox_messages.c.payload).where(outbox_messages.c.event_type != EXTRACT))
        if any('"by event"' in payload for payload in asked.scalars()):
            found.add("7")
    return {name for name in found if name}


def check(db: Database, messages: Sequence[NewMessage] | None = None, *, poison: str = POISON) -> None:
    """Each message once; each user message one consumed event and one final job; each success one item and audit
    row; order kept; only legal moves; nothing of what was never committed."""
    with db.read() as conn:
        tables = [chat_messages, outbox_messages, memory_jobs, memory_items, memory_audit_logs, memory_job_events]
        said, events, jobs, items, audits, moves = ([*conn.execute(select(table))] for table in tables)
        talks = {row.id: row for row in conn.execute(select(conversations))}
    expected = wanted() if messages is None else messages
    assert Counter((m.user_id, m.client_message_id) for m in expected) == Counter(
        (row.user_id, row.client_message_id) for row in said
    )
    for id_, talk in talks.items():
        numbers = sorted(row.seq for row in said if row.conversation_id == id_)
        assert numbers == list(range(1, talk.message_count + 1))
    asking = {row.id: row for row in said if row.role == "user"}
    assert {row.status for row in events} == {"consumed"}
    asked = [row for row in events if row.event_type == EXTRACT]
    assert len(asked) == len(asking)
    assert {row.event_id for row in asked} == {row.source_event_id for row in jobs}
    assert Counter(row.source_message_id for row in jobs) == Counter(list(asking))
    texts = {row.id: asking[row.source_message_id].content for row in jobs}
    assert {row.id: row.status for row in jobs} == {
        id_: "dead" if text == poison else "success" for id_, text in texts.items()
    }
    succeeded = [row.id for row in jobs if row.status == "success"]
    assert Counter(row.source_job_id for row in items) == Counter(succeeded)
    assert Counter(row.memory_id for row in audits) == Counter(row.id for row in items)
    assert all(row.due_at is None and row.order_key is None for row in [*events, *jobs])
    check_moves(jobs, moves)
    check_order(asking, jobs, moves)


def check_moves(jobs: Sequence[Any], moves: Sequence[Any]) -> None:
    by_job: dict[int, list[Any]] = defaultdict(list)
    for move in sorted(moves, key=lambda move: move.id):
        by_job[move.job_id].append(move)
    assert set(by_job) == {job.id for job in jobs}
    for job in jobs:
        chain = by_job[job.id]
        assert all((move.from_status, move.to_status) in LEGAL for move in chain)
        assert all(a.to_status == b.from_status for a, b in itertools.pairwise(chain)), job.id
        assert (chain[0].from_status, chain[-1].to_status) == (None, job.status)


def check_order(asking: dict[str, Any], jobs: Sequence[Any], moves: Sequence[Any]) -> None:
    """A conversation's jobs stand in the order of its messages, and ended in that order. By the ids of the history's
    rows, which the database gave, and not by times, which differ between processes by their round trips."""
    ended = {move.job_id: move.id for move in moves if move.to_status in ("success", "dead")}
    per_talk: dict[str, list[Any]] = defaultdict(list)
    for job in sorted(jobs, key=lambda job: job.id):
        per_talk[job.conversation_id].append(job)
    for chain in per_talk.values():
        numbers = [asking[job.source_message_id].seq for job in chain]
        assert numbers == sorted(numbers)
        ends = [ended[job.id] for job in chain]
        assert ends == sorted(ends)
