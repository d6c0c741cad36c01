"""Chat history: two ways in, both idempotent, and exactly what asks for extraction."""

from __future__ import annotations

import datetime as dt
import json
import threading
from typing import Any

import pytest
from sqlalchemy import insert

from smartmem.chat import history
from smartmem.chat.history import Appended, append_message, append_messages, messages, request_persist
from smartmem.db.engine import Database
from smartmem.db.tables import chat_messages, conversations, memory_user_settings, outbox_messages
from smartmem.errors import BadRecord
from smartmem.outbox.events import EventRegistry
from smartmem.outbox.relay import Relay
from smartmem.settings import OutboxSettings
from tests.support.pipeline import START, clock_of, message, rows, statuses


def append(target: Any, **changes: Any) -> Appended:
    values: dict[str, Any] = {
        "user_id": 1,
        "conversation_id": "c1",
        "role": "user",
        "content": "我喜欢绿茶 🍵",
        "occurred_at": START,
    }
    return append_message(target, **(values | changes))


def persist_relay(db: Database) -> Relay:
    registry = EventRegistry()
    history.register(registry)
    return Relay(db, registry, OutboxSettings())


def test_a_user_message_asks_for_extraction(db: Database) -> None:
    done = append(db, trace_id="trace-9", assistant_id="a", run_id="r", speaker="Ann")
    assert (done.seq, done.created) == (1, True)
    (stored,) = messages(db, conversation_id="c1")
    assert (stored.id, stored.content, stored.occurred_at, stored.speaker) == (
        done.message_id,
        "我喜欢绿茶 🍵",
        START,
        "Ann",
    )
    (event,) = rows(db, outbox_messages)
    assert (event.event_id, event.trace_id, event.message_key) == (done.event_id, "trace-9", "1")
    payload = json.loads(event.payload)
    assert payload["source_message_id"] == done.message_id
    assert (payload["assistant_id"], payload["run_id"], payload["source_role"]) == ("a", "r", "user")


@pytest.mark.parametrize(
    "changes",
    [{"role": "assistant"}, {"role": "system"}, {"role": "tool"}, {"content": ""}, {"content": " \n　"}],
)
def test_others_are_stored_and_ask_for_nothing(db: Database, changes: dict[str, str]) -> None:
    assert append(db, **changes).event_id is None
    assert len(messages(db, conversation_id="c1")) == 1
    assert rows(db, outbox_messages) == []


def test_switched_off_memory_asks_for_nothing(db: Database) -> None:
    off = {
        "user_id": 1,
        "memory_enabled": False,
        "implicit_memory_enabled": True,
        "sensitive_memory_enabled": False,
        "updated_at": START,
    }
    with db.begin() as conn:
        conn.execute(insert(memory_user_settings), [off, off | {"user_id": 2, "memory_enabled": True}])
    assert append(db).event_id is None
    assert append(db, user_id=2, conversation_id="c2").event_id is not None


def test_a_resent_message_is_stored_once(db: Database) -> None:
    first = append(db, client_message_id="x")
    again = append(db, client_message_id="x", content="changed on the way")
    assert again == Appended(message_id=first.message_id, seq=1, event_id=None, created=False)
    assert append(db, client_message_id="x", conversation_id="c2").created  # unique in its conversation only
    assert len(rows(db, outbox_messages)) == 2
    assert [talk.message_count for talk in rows(db, conversations)] == [1, 1]


def test_the_same_words_twice_are_two_messages(db: Database) -> None:
    assert [append(db).seq for _ in range(2)] == [1, 2]
    keys = {json.loads(row.payload)["idempotency_key"] for row in rows(db, outbox_messages)}
    assert len(keys) == 2


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"user_id": 0}, "user_id 0"),
        ({"user_id": -1}, "user_id -1"),
        ({"conversation_id": " "}, "blank"),
        ({"conversation_id": "c" * 192}, "191"),
        ({"client_message_id": "\ud800"}, "not valid text"),
        ({"role": "robot"}, "robot"),
        ({"occurred_at": dt.datetime(2026, 1, 1)}, "naive"),
        ({"trace_id": "é"}, "trace_id"),
        ({"trace_id": "two words"}, "trace_id"),
    ],
)
def test_what_cannot_be_stored_is_refused_whole(db: Database, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(BadRecord, match=told):
        append(db, **changes)
    assert rows(db, conversations) == rows(db, chat_messages) == rows(db, outbox_messages) == []


def test_a_foreign_conversation_is_refused(db: Database) -> None:
    append(db)
    with pytest.raises(BadRecord, match="belongs to another user"):
        append(db, user_id=2)
    assert len(rows(db, chat_messages)) == 1


def test_the_callers_transaction_decides(db: Database) -> None:
    def half() -> None:
        with db.begin() as conn:
            append(conn)
            append(conn)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        half()
    assert rows(db, conversations) == rows(db, chat_messages) == rows(db, outbox_messages) == []
    with db.begin() as conn:
        assert [append(conn).seq, append(conn).seq] == [1, 2]
    assert len(rows(db, outbox_messages)) == 2


def test_bulk_gives_each_message_its_answer(db: Database) -> None:
    append(db, client_message_id="old")
    clock_of(db).advance(5)
    later = START + dt.timedelta(days=1)
    outcomes = append_messages(
        db,
        [
            message(1, "one", client_message_id="a", occurred_at=later),
            message(0, "nobody"),
            message(1, "again", client_message_id="a"),
            message(1, "known", client_message_id="old"),
            message(2, "theft", conversation_id="c1"),
            message(2, "two"),
            message(1, "last"),
        ],
    )
    told = [(one.seq, one.created) if isinstance(one, Appended) else str(one)[:12] for one in outcomes]
    assert told == [(2, True), "user_id 0 mu", (2, False), (1, False), "conversation", (1, True), (3, True)]
    talks = {row.id: row for row in rows(db, conversations)}
    assert (talks["c1"].message_count, talks["c1"].last_message_at) == (3, later)
    assert talks["c1"].updated_at == db.now()
    assert talks["c2"].title == "two"
    assert [row.message_key for row in rows(db, outbox_messages)] == ["1", "1", "2", "1"]


def test_bulk_is_resumable(db: Database) -> None:
    many = [message(user, f"m{n}", client_message_id=f"{n}") for n in range(30) for user in (1, 2)]
    append_messages(db, many[:25], batch=10)
    outcomes = append_messages(db, many, batch=7)
    assert [one.created for one in outcomes if isinstance(one, Appended)] == [False] * 25 + [True] * 35
    assert len(rows(db, outbox_messages)) == 60
    assert [m.content for m in messages(db, conversation_id="c1")] == [f"m{n}" for n in range(30)]
    assert [m.seq for m in messages(db, conversation_id="c1", after_seq=28)] == [29, 30]


def test_reading_needs_a_scope(db: Database) -> None:
    append(db)
    append(db, conversation_id="c0", occurred_at=START - dt.timedelta(1))
    assert [m.conversation_id for m in messages(db, user_id=1)] == ["c0", "c1"]
    assert [m.conversation_id for m in messages(db, user_id=1, conversation_id="c1")] == ["c1"]
    assert messages(db, user_id=2, conversation_id="c1") == []
    assert len(messages(db, user_id=1, limit=1)) == 1
    with pytest.raises(BadRecord):
        messages(db)


def test_the_event_does_the_same(db: Database) -> None:
    with db.begin() as conn:
        request_persist(conn, message(1, "by event", trace_id="t7"))
        request_persist(conn, message(1, "twice", client_message_id="x"))
        request_persist(conn, message(1, "twice", client_message_id="x"))
    relay = persist_relay(db)
    assert relay.run_once().consumed == 3
    stored = messages(db, conversation_id="c1")
    assert [(m.content, m.seq) for m in stored] == [("by event", 1), ("twice", 2)]
    assert stored[0].trace_id == "t7"
    asked = [row for row in rows(db, outbox_messages) if row.event_type == "memory.extract.requested"]
    assert [row.status for row in asked] == ["pending", "pending"]
    with pytest.raises(BadRecord), db.begin() as conn:
        request_persist(conn, message(0))


def test_a_redelivered_event_stores_nothing(db: Database) -> None:
    with db.begin() as conn:
        request_persist(conn, message(1, "once"))
    relay = persist_relay(db)
    relay.run_once()
    with db.begin() as conn:
        row = rows(db, outbox_messages)[0]
        again = {"status": "pending", "due_at": db.now(), "order_key": row.message_key}
        conn.execute(outbox_messages.update().where(outbox_messages.c.id == row.id).values(again))
    assert relay.run_once().consumed == 1
    assert len(messages(db, conversation_id="c1")) == 1


def test_an_event_for_a_foreign_conversation_dies_alone(db: Database) -> None:
    append(db, role="assistant")
    with db.begin() as conn:
        for user in (1, 2, 1):
            request_persist(conn, message(user, f"of {user}", conversation_id="c1"))
    counts = persist_relay(db).run_once()
    assert (counts.consumed, counts.dead) == (2, 1)
    assert statuses(db, outbox_messages)[:3] == ["consumed", "dead", "consumed"]
    assert len(messages(db, conversation_id="c1")) == 3


def test_texts_that_break_databases_are_stored_legibly(db: Database) -> None:
    texts = ["nul \x00 inside", "lone \ud83d surrogate", "שלום مرحبا", "👨‍👩‍👧‍👦" * 100, "x" * 1_000_000, "\u202e rtl"]
    for text in texts:
        append(db, content=text)
    stored = [m.content for m in messages(db, conversation_id="c1")]
    assert stored[0] == "nul � inside"
    assert stored[1] == "lone � surrogate"
    assert stored[2:] == texts[2:]


def test_concurrent_writers_number_without_gaps(any_url: str) -> None:
    db = Database.open(any_url)
    errors: list[BaseException] = []

    def write(writer: int) -> None:
        try:
            for n in range(10):
                append(db, content=f"{writer}-{n}", conversation_id="new", client_message_id=f"{writer % 2}-{n}")
        except BaseException as error:  # noqa: BLE001 - handed to the test's own thread
            errors.append(error)

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    stored = messages(db, conversation_id="new")
    assert [m.seq for m in stored] == list(range(1, 21))
    # Events stand in the order of their messages, which is the order in which they will be worked.
    events = [json.loads(row.payload)["source_message_id"] for row in rows(db, outbox_messages)]
    assert events == [m.id for m in stored]
    db.close()
