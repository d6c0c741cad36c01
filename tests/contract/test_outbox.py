"""Events: what goes in, what is refused, and what dead ones can be made to do."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from smartmem.db.dead_letters import DeadFilter
from smartmem.db.engine import Database
from smartmem.db.tables import outbox_messages
from smartmem.errors import BadRecord, ConfigError
from smartmem.outbox.events import EventRegistry, ExtractRequested, PersistRequested, extract_key
from smartmem.outbox.publish import publish, publish_many
from smartmem.outbox.queue import OutboxQueue
from smartmem.outbox.relay import Relay
from smartmem.settings import OutboxSettings
from tests.support.pipeline import START, clock_of, put_events, rows


def asked(user_id: int = 1, **changes: object) -> ExtractRequested:
    values: dict[str, object] = {
        "user_id": user_id,
        "conversation_id": "c1",
        "source_message_id": "m1",
        "source_role": "user",
        "source_text": "我喜欢绿茶 🍵",
        "occurred_at": START,
        "trace_id": "t1",
        "idempotency_key": "k1",
    }
    return ExtractRequested(**(values | changes))


def test_an_event_is_written_by_the_callers_transaction_only(db: Database) -> None:

    def half() -> None:
        with db.begin() as conn:
            publish(conn, asked())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        half()
    assert rows(db, outbox_messages) == []
    with db.begin() as conn:
        event_id = publish(conn, asked())
    (row,) = rows(db, outbox_messages)
    assert (row.event_id, row.event_type, row.event_version) == (event_id, "memory.extract.requested", 1)
    assert (row.aggregate_type, row.aggregate_id, row.message_key) == ("user", "1", "1")
    assert (row.status, row.retry_count, row.max_retry, row.due_at) == ("pending", 0, 20, START)
    assert json.loads(row.payload)["source_text"] == "我喜欢绿茶 🍵"
    assert "我" in row.payload  # readable in the table, and a third of the length of \\u escapes


def test_many_events_keep_their_order(db: Database) -> None:
    with db.begin() as conn:
        made = publish_many(conn, [asked(user) for user in (3, 1, 2)])
        assert publish_many(conn, []) == []
    assert [row.event_id for row in rows(db, outbox_messages)] == made
    assert len(set(made)) == 3


def test_text_that_no_database_can_hold_is_refused(db: Database) -> None:
    with pytest.raises((BadRecord, ValidationError)), db.begin() as conn:
        publish(conn, asked(source_text="half \ud83d"))


@pytest.mark.parametrize(
    "changes",
    [
        {"user_id": 0},
        {"user_id": -4},
        {"conversation_id": " "},
        {"source_role": ""},
        {"source_text": "\n"},
        {"idempotency_key": ""},
        {"surprise": 1},
        {"occurred_at": START.replace(tzinfo=None)},
    ],
)
def test_extraction_events_are_validated(changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        asked(**changes)


def test_the_idempotency_key_names_the_message_or_its_words() -> None:
    key = extract_key(1, "c", "m1", "tea")
    assert key == extract_key(1, "c", "m1", "other words, the same message")
    assert key != extract_key(1, "c", "m2", "tea")
    assert key != extract_key(2, "c", "m1", "tea")
    by_text = extract_key(1, "c", None, "tea")
    assert by_text == extract_key(1, "c", None, "tea")
    assert by_text != extract_key(1, "c", None, "coffee")
    assert by_text != extract_key(1, "d", None, "tea")
    assert len(key) <= 128


def test_an_event_has_one_handler() -> None:
    registry = EventRegistry()
    registry.register(ExtractRequested, lambda conn, events: None)
    with pytest.raises(ConfigError, match="already has a handler"):
        registry.register(ExtractRequested, lambda conn, events: None)
    registry.register(PersistRequested, lambda conn, events: None)
    assert registry.types() == [("chat.history.persist.requested", 1), ("memory.extract.requested", 1)]


def test_dead_events_are_listed_replayed_and_discarded(db: Database) -> None:
    queue = OutboxQueue(db, OutboxSettings())
    made = put_events(db, ["a", "b", "c"])
    Relay(db, EventRegistry(), OutboxSettings()).drain()
    assert queue.depth().by_status == {"dead": 3}
    assert queue.depth(finished=False).dead == 3
    assert sorted(row.id for row in queue.list(status="dead")) == made
    assert [row.id for row in queue.list(event_type="test.happened", limit=1)] == made[-1:]
    assert "no handler" in queue.get(made[0]).last_error
    assert queue.replay(DeadFilter(kind="something.else")) == []
    assert queue.replay(DeadFilter(kind="test.happened", ids=made[:1])) == made[:1]
    assert queue.discard(DeadFilter(ids=made[1:2]), "test row") == made[1:2]
    assert queue.depth().by_status == {"pending": 1, "dead": 2}
    assert queue.depth().dead == 1
    clock_of(db).advance(5)
    assert queue.depth().oldest_age_s == 5


def test_consumed_events_are_pruned_after_their_time_never_before(db: Database) -> None:
    queue = OutboxQueue(db, OutboxSettings(retention_days=7))
    registry = EventRegistry()
    registry.register(ExtractRequested, lambda conn, events: None)
    with db.begin() as conn:
        publish(conn, asked())
    Relay(db, registry, OutboxSettings()).drain()
    clock_of(db).advance(7 * 86400)
    assert queue.prune() == 0
    clock_of(db).advance(1)
    with db.begin() as conn:
        publish(conn, asked())
    assert queue.prune() == 1
    assert queue.prune() == 0
