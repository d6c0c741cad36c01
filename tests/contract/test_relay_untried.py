"""Batches of untried events in one transaction: when a relay dares to, and that nothing is lost or uncounted by it."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Sequence

import pytest
from sqlalchemy import String, Table, text
from sqlalchemy import event as on
from sqlalchemy.engine import Connection

from smartmem.clock import ManualClock
from smartmem.db.engine import Database
from smartmem.db.leases import JOBS, OUTBOX, Leases
from smartmem.db.tables import UtcDateTime, memory_jobs, outbox_messages
from smartmem.errors import StaleLease, StoreUnavailable
from smartmem.outbox.events import Event, EventRegistry
from smartmem.outbox.relay import Relay
from smartmem.settings import JobSettings, OutboxSettings
from tests.contract.test_leases import put as put_jobs
from tests.contract.test_relay import Book, Happened, effects, happened, put, relay
from tests.support.crash import CrashRunner
from tests.support.pipeline import START, clock_of, put_events, rows, statuses

POISON = 5


def proven(db: Database, book: Book, *, batch: int = 100) -> Relay:
    """A relay that has carried one batch."""
    put(db, happened("first", 0))
    one = relay(db, book, batch=batch)
    assert one.run_once().consumed == 1
    book.calls.clear()
    return one


def test_a_first_batch_is_claimed_and_the_next_ones_are_not(db: Database) -> None:
    commits: list[int] = []
    on.listen(db.engine, "commit", lambda conn: commits.append(1))
    put(db, *(happened(f"k{n}", n) for n in range(6)))
    one = relay(db, Book(), batch=3)
    commits.clear()
    assert one.run_once().consumed == 3
    assert len(commits) == 2
    commits.clear()
    assert one.run_once().consumed == 3
    assert len(commits) == 1
    seen = rows(db, outbox_messages)
    assert {(row.status, row.worker_id, row.due_at, row.order_key) for row in seen} == {("consumed", "r1", None, None)}
    assert [row.lease_token is None for row in seen] == [False] * 3 + [True] * 3


def test_a_failure_undoes_the_batch_and_is_counted_by_a_claim(db: Database) -> None:
    book = Book(lambda payload: RuntimeError("poison") if payload.n == POISON else None)
    one = proven(db, book)
    put(db, *(happened(f"k{n}", n) for n in range(4, 8)))
    counts = one.run_once()
    assert (counts.consumed, counts.failed) == (3, 1)
    assert book.calls == [[4, 5, 6, 7], [4, 5, 6, 7], [4], [5], [6], [7]]  # at once, by claim, one by one
    assert effects(db) == ["first-0", "k4-4", "k6-6", "k7-7"]
    failed = rows(db, outbox_messages)[2]
    assert (failed.status, failed.retry_count) == ("failed", 1)


def test_what_was_tried_before_is_claimed(db: Database) -> None:
    trouble = [RuntimeError("not yet")]
    book = Book(lambda payload: trouble[0] if trouble and payload.n == POISON else None)
    one = proven(db, book)
    put(db, happened("k", POISON))
    assert one.run_once().failed == 1
    assert one.run_once().claimed == 0
    put(db, happened("other", 6))
    assert one.run_once().consumed == 1  # by claim, after a failure: proven again
    clock_of(db).advance(1)
    trouble.clear()
    put(db, happened("k", 7))
    assert one.run_once().consumed == 2
    assert [row.lease_token is None for row in rows(db, outbox_messages)] == [False] * 4
    assert book.calls[-1] == [POISON, 7]


def test_events_that_nobody_can_read_are_left_to_a_claim(db: Database) -> None:
    one = proven(db, Book())
    put_events(db, ["a"], payload="not json")
    put(db, happened("a", 1))
    counts = one.run_once()
    assert (counts.dead, counts.consumed) == (1, 1)


@pytest.mark.parametrize("error", [StoreUnavailable("away"), KeyboardInterrupt()])
def test_after_an_interruption_a_relay_claims_again(db: Database, error: BaseException) -> None:
    trouble = [error]

    def handle(conn: Connection, events: Sequence[Event]) -> None:
        if trouble and events[0].payload.n:
            raise trouble.pop()

    registry = EventRegistry()
    registry.register(Happened, handle)
    one = Relay(db, registry, OutboxSettings(), worker_id="r1")
    put(db, happened("a", 0))
    assert one.run_once().consumed == 1
    put(db, happened("a", 1))
    with pytest.raises(type(error)):
        one.run_once()
    assert statuses(db, outbox_messages)[1] == "pending"
    assert one.run_once().consumed == 1
    assert rows(db, outbox_messages)[1].lease_token is not None


def test_only_waiting_rows_can_be_finished_without_a_lease(db: Database) -> None:
    put(db, happened("a", 1), happened("b", 2))
    leases = Leases(db, OUTBOX, OutboxSettings())
    first = leases.claim(1, "other").rows[0].id
    with pytest.raises(StaleLease, match="1 of 2 events"), db.begin() as conn:
        leases.finish(conn, None, [first, first + 1])
    assert statuses(db, outbox_messages) == ["processing", "pending"]


@pytest.mark.mariadb
def test_two_relays_do_not_take_the_same_untried_events(mariadb_url: str) -> None:
    """While one handles a batch, the other passes over it, and over what comes later in its keys."""
    db = Database.open(mariadb_url)
    db.migrate()
    book = Book()
    other = proven(db, book)
    seen: list[int] = []

    def meanwhile(conn: Connection, events: Sequence[Event]) -> None:
        if len(seen) == 1:
            put(db, happened("a", 3), happened("b", 4))
            seen.append(other.run_once().consumed)
        seen.append(len(events))

    registry = EventRegistry()
    registry.register(Happened, meanwhile)
    one = Relay(db, registry, OutboxSettings(batch=2))
    put(db, happened("x", 0))
    one.run_once()
    put(db, happened("a", 1), happened("a", 2))
    assert one.run_once().consumed == 2
    assert seen == [1, 1, 2]
    assert book.calls == [[4]]
    assert other.run_once().consumed == 1
    db.close()


def a_relay_to_its_end(url: str, hours: int) -> None:
    """A relay in a process of its own, so many hours after the story's beginning: earlier leases have ended."""
    db = Database.open(url, clock=ManualClock(START + dt.timedelta(hours=hours)))
    relay(db, Book(_kill), batch=2).drain()
    db.close()


def _kill(payload: Happened) -> None:
    if payload.n == POISON:
        os._exit(9)


def test_an_event_that_kills_its_relay_ends_dead(any_url: str, crash_runner: CrashRunner) -> None:
    """The first relay meets it in a batch that it has not claimed; every later one in its first batch."""
    db = Database.open(any_url, clock=ManualClock(START))
    put(db, *(happened(f"k{n}", n) for n in range(8)), max_retry=3)
    ends = [crash_runner.run_until(None, a_relay_to_its_end, any_url, hour).exitcode for hour in range(6)]
    seen = rows(db, outbox_messages)
    assert [row.status for row in seen] == ["consumed"] * 5 + ["dead"] + ["consumed"] * 2
    assert (seen[POISON].retry_count, "may have crashed" in seen[POISON].last_error) == (3, True)
    assert ends == [9, 9, 9, 9, 0, 0]  # one that was not counted, then as many as it may have
    db.close()


def widths(db: Database, table: Table) -> list[int]:
    """How many bytes each row has in columns whose width may change, as InnoDB keeps them."""
    times = {column.name for column in table.columns if isinstance(column.type, UtcDateTime) and not column.computed}
    texts = {column.name for column in table.columns if isinstance(column.type, String)}
    parts = [f"COALESCE(OCTET_LENGTH({name}),0)" for name in sorted(texts)]
    parts += [f"IF({name} IS NULL,0,8)" for name in sorted(times)]
    with db.read() as conn:
        return [
            int(one) for one in conn.execute(text(f"SELECT {'+'.join(parts)} FROM {table.name} ORDER BY id")).scalars()
        ]


@pytest.mark.mariadb
def test_no_row_grows_while_it_is_worked(mariadb_url: str) -> None:
    """InnoDB writes most of a page anew for a row that has: hot.place."""
    worker = "worker@" + "h" * 24 + ":4194304:123abc"
    db = Database.open(mariadb_url)
    db.migrate()
    one = proven(db, Book())
    one.worker_id = worker
    put(db, happened("a", 1))
    waiting = widths(db, outbox_messages)
    assert one.run_once().consumed == 1
    assert widths(db, outbox_messages)[1] <= waiting[1]
    put_jobs(db, 1)
    lives = [widths(db, memory_jobs)]
    leases = Leases(db, JOBS, JobSettings())
    claim = leases.claim(1, worker)
    lives.append(widths(db, memory_jobs))
    with db.begin() as conn:
        leases.finish(conn, claim.token, [claim.rows[0].id], {"outcome": "facts"})
    lives.append(widths(db, memory_jobs))
    assert lives == sorted(lives, reverse=True)
    db.close()
