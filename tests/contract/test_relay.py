"""The relay: effects and `consumed` together, order per key, and one bad event hurts only itself."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import pytest
from sqlalchemy import insert
from sqlalchemy.engine import Connection

from smartmem.db.engine import Database
from smartmem.db.tables import conversations, memory_jobs, outbox_messages
from smartmem.errors import BadRecord
from smartmem.jobs import enqueue
from smartmem.outbox.events import Event, EventPayload, EventRegistry
from smartmem.outbox.publish import publish_many
from smartmem.outbox.relay import Relay
from smartmem.settings import ExtractSettings, JobSettings, OutboxSettings
from tests.contract.test_outbox import asked
from tests.support.pipeline import START, clock_of, put_events, rows, statuses


class Happened(EventPayload):
    event_type: ClassVar[str] = "test.happened"
    version: ClassVar[int] = 1
    aggregate_type: ClassVar[str] = "test"

    key: str
    n: int

    @property
    def aggregate_id(self) -> str:
        return self.key

    @property
    def message_key(self) -> str:
        return self.key


class AlsoHappened(Happened):
    event_type: ClassVar[str] = "test.also_happened"


class Book:
    """A handler that writes a conversation for each event, and fails where it is told to."""

    def __init__(self, fails: Callable[[Happened], Exception | None] = lambda payload: None) -> None:
        self.fails = fails
        self.calls: list[list[int]] = []

    def __call__(self, conn: Connection, events: Sequence[Event]) -> None:
        self.calls.append([event.payload.n for event in events])
        for event in events:
            conn.execute(insert(conversations).values(_conversation(f"{event.payload.key}-{event.payload.n}")))
            if (error := self.fails(event.payload)) is not None:
                raise error


def _conversation(id_: str) -> dict[str, Any]:
    blank = {"user_id": 1, "title": "", "message_count": 0, "created_at": START, "updated_at": START}
    return blank | {"id": id_}


def put(db: Database, *events: EventPayload, max_retry: int = 20) -> None:
    with db.begin() as conn:
        publish_many(conn, events, max_retry=max_retry)


def happened(key: str, n: int) -> Happened:
    return Happened(key=key, n=n, trace_id="t")


def relay(db: Database, book: Book, *, batch: int = 100) -> Relay:
    registry = EventRegistry()
    registry.register(Happened, book)
    registry.register(AlsoHappened, book)
    return Relay(db, registry, OutboxSettings(batch=batch), worker_id="r1")


def effects(db: Database) -> list[str]:
    return [row.id for row in rows(db, conversations)]


def test_a_batch_is_one_call_and_one_transaction(db: Database) -> None:
    put(db, *(happened(f"k{n % 3}", n) for n in range(6)))
    book = Book()
    counts = relay(db, book).run_once()
    assert (counts.claimed, counts.consumed) == (6, 6)
    assert book.calls == [[0, 1, 2, 3, 4, 5]]
    assert set(statuses(db, outbox_messages)) == {"consumed"}
    assert rows(db, outbox_messages)[0].consumed_at == db.now()
    assert relay(db, book).run_once().claimed == 0


def test_what_cannot_be_handled_is_dead_at_once_with_the_reason(db: Database) -> None:
    put_events(db, ["a", "b", "c", "d"])  # "{}" is not valid: `key` is missing
    put_events(db, ["e"], event_type="nobody.knows")
    put_events(db, ["f"], event_version=2)
    put_events(db, ["g"], payload="not json")
    put(db, happened("a", 1))
    counts = relay(db, Book()).run_once()
    assert (counts.dead, counts.consumed) == (7, 1)
    reasons = [row.last_error for row in rows(db, outbox_messages)[:-1]]
    assert all("invalid payload: trace_id" in reason for reason in reasons[:4])
    assert reasons[4] == "no handler for event nobody.knows version 1"
    assert reasons[5] == "no handler for event test.happened version 2"
    assert "invalid payload" in reasons[6]


def test_a_poison_event_hurts_only_itself(db: Database) -> None:
    put(db, *(happened(f"k{n}", n) for n in range(5)))
    book = Book(lambda payload: RuntimeError("poison") if payload.n == 2 else None)
    counts = relay(db, book).run_once()
    assert (counts.consumed, counts.failed) == (4, 1)
    assert effects(db) == ["k0-0", "k1-1", "k3-3", "k4-4"]  # nothing of the failed one, each other one once
    row = rows(db, outbox_messages)[2]
    assert (row.status, row.retry_count, row.last_error) == ("failed", 1, "RuntimeError: poison")
    assert (row.due_at - db.now()).total_seconds() == 1


def test_later_events_of_a_failed_key_wait_uncounted(db: Database) -> None:
    put(db, happened("a", 1), happened("a", 2), happened("b", 3), happened("a", 4))
    trouble = [RuntimeError("not yet")]
    book = Book(lambda payload: trouble[0] if trouble and payload.n == 2 else None)
    counts = relay(db, book).run_once()
    assert (counts.consumed, counts.failed) == (2, 1)
    assert statuses(db, outbox_messages) == ["consumed", "failed", "consumed", "pending"]
    assert relay(db, book).run_once().claimed == 0
    trouble.clear()
    clock_of(db).advance(1)
    assert relay(db, book).run_once().consumed == 2
    assert book.calls[-1] == [2, 4]
    assert [row.retry_count for row in rows(db, outbox_messages)] == [0, 1, 0, 0]


def test_a_bad_record_is_dead_at_once_and_the_next_goes_on(db: Database) -> None:
    put(db, happened("a", 1), happened("a", 2))
    counts = relay(db, Book(lambda payload: BadRecord("never") if payload.n == 1 else None)).run_once()
    assert (counts.dead, counts.consumed) == (1, 1)
    assert statuses(db, outbox_messages) == ["dead", "consumed"]


def test_failures_past_the_limit_are_dead(db: Database) -> None:
    put(db, happened("a", 1), max_retry=3)
    one = relay(db, Book(lambda payload: RuntimeError("always")))
    seen = []
    for _ in range(4):
        one.run_once()
        seen.append(statuses(db, outbox_messages)[0])
        clock_of(db).advance(60)
    assert seen == ["failed", "failed", "dead", "dead"]


def test_order_holds_when_a_keys_events_change_type(db: Database) -> None:
    put(db, happened("a", 1), AlsoHappened(key="a", n=2, trace_id="t"), happened("a", 3), happened("b", 4))
    book = Book()
    assert relay(db, book).run_once().consumed == 4
    assert book.calls == [[1, 4], [2], [3]]


def stop_for_a_minute(slow: Relay, db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between its next claim and the handlers, once; another relay takes an event meanwhile."""
    sort = slow._sort

    def stopped(claimed: Sequence[Any]) -> Any:
        monkeypatch.undo()
        clock_of(db).advance(61)
        assert relay(db, Book(), batch=1).run_once().consumed == 1
        return sort(claimed)

    monkeypatch.setattr(slow, "_sort", stopped)


def test_a_lost_lease_rolls_its_effects_back(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another relay takes the event between claim and handler: only that one's effects stay."""
    put(db, happened("a", 1), happened("b", 2))
    slow = relay(db, Book())
    stop_for_a_minute(slow, db, monkeypatch)
    counts = slow.run_once()
    assert (counts.consumed, counts.lost) == (1, 1)
    assert effects(db) == ["a-1", "b-2"]
    assert statuses(db, outbox_messages) == ["consumed", "consumed"]


def test_a_lease_lost_before_the_finish_holds_its_key_back(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """The handler sees nothing of the other relay: only the finish does. The key's next event waits for its turn."""
    handled: list[int] = []
    registry = EventRegistry()
    registry.register(Happened, lambda conn, events: handled.extend(event.payload.n for event in events))
    put(db, happened("a", 1), happened("a", 2), happened("b", 3))
    slow = Relay(db, registry, OutboxSettings(), worker_id="slow")
    stop_for_a_minute(slow, db, monkeypatch)
    counts = slow.run_once()
    assert (counts.consumed, counts.lost) == (1, 1)
    assert handled == [1, 2, 3, 1, 3]
    assert slow.run_once().consumed == 1
    assert handled[5:] == [2]
    assert statuses(db, outbox_messages) == ["consumed"] * 3


def test_extraction_is_only_enqueued(db: Database) -> None:
    registry = EventRegistry()
    enqueue.register(registry, ExtractSettings(max_chars=5), JobSettings(max_retry=4))
    with db.begin() as conn:
        publish_many(
            conn,
            [
                asked(7, idempotency_key="k1", source_text="tea 👨‍👩‍👧 and more"),
                asked(7, idempotency_key="k1"),
                asked(8, idempotency_key="我" * 100),
                asked(8, idempotency_key="x" * 200),
            ],
        )
    one = Relay(db, registry, OutboxSettings())
    assert one.run_once().consumed == 4
    with db.begin() as conn:
        publish_many(conn, [asked(7, idempotency_key="k1")])  # redelivered
    assert one.run_once().consumed == 1
    jobs = rows(db, memory_jobs)
    assert [job.user_id for job in jobs] == [7, 8, 8]
    first = jobs[0]
    assert (first.job_type, first.status, first.max_retry, first.order_key) == ("extract", "pending", 4, "u7")
    assert (first.source_message_id, first.trace_id) == ("m1", "t1")
    assert first.source_event_id == rows(db, outbox_messages)[0].event_id
    payload = json.loads(first.payload)
    assert (payload["source_text"], payload["cut"], payload["source_chars"]) == ("tea ", True, 18)


def test_what_is_no_exception_still_fails_its_event_alone(db: Database) -> None:
    def leaves(conn: Connection, events: Sequence[Event]) -> None:
        if any(event.payload.n == 1 for event in events):
            raise SystemExit(3)

    put(db, happened("a", 1), happened("b", 2), max_retry=1)
    registry = EventRegistry()
    registry.register(Happened, leaves)
    counts = Relay(db, registry, OutboxSettings(), worker_id="r1").run_once()
    assert (counts.consumed, counts.dead) == (1, 1)
    assert "SystemExit: 3" in rows(db, outbox_messages)[0].last_error
