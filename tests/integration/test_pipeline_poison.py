"""Whatever is said ends in a final state with a clear reason; and no user waits for another's ten thousand messages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, insert

from smartmem.chat.history import Appended, append_messages, messages
from smartmem.db.engine import Database
from smartmem.db.tables import memory_jobs, outbox_messages
from smartmem.jobs.worker import Worker
from smartmem.outbox.relay import Relay
from smartmem.settings import JobSettings, OutboxSettings
from tests.support import story
from tests.support.handlers import FactHandler
from tests.support.pipeline import START, clock_of, message, put_events, rows, statuses

TEXTS = {
    "a megabyte": "长" * 500_000 + "x" * 500_000,
    "NUL bytes": "a\x00b\x00",
    "lone surrogates": "half \ud83d and \udc4d",
    "four-byte emoji": "👍🏽" * 400 + "👨‍👩‍👧‍👦" * 400,
    "right to left": "\u202eשלום עולם مرحبا",
    "combining": "e\u0301" * 3_000,
    "SQL and JSON": '\'; DROP TABLE memory_jobs; -- {"a": "\\u0000"} %s %(x)s :name ? \\',
    "controls": "\x01\x02\x7f\u2028\u2029\ufeff",
}


def run(db: Database) -> None:
    outbox, jobs = OutboxSettings(), JobSettings()
    Relay(db, story.registry(jobs), outbox).drain()
    worker = Worker(db, [FactHandler()], jobs)
    worker.drain()
    worker.close()


def test_texts_that_break_things_end_well(db: Database) -> None:
    wanted = [message(number, text, client_message_id="1") for number, text in enumerate(TEXTS.values(), 1)]
    outcomes = append_messages(db, wanted)
    assert [getattr(one, "created", one) for one in outcomes] == [True] * len(wanted)
    run(db)
    assert set(statuses(db, outbox_messages)) == {"consumed"}
    assert statuses(db) == ["success"] * len(TEXTS)
    for number, (name, text) in enumerate(TEXTS.items(), 1):
        (stored,) = messages(db, user_id=number)
        assert len(stored.content) == len(text), name
        payload = json.loads(rows(db)[number - 1].payload)
        assert len(payload["source_text"]) <= 1_500
        assert payload["cut"] == (len(text) > 1_500)
        assert stored.content.startswith(payload["source_text"]), name
        assert not payload["source_text"].endswith("\u200d"), "a family was cut in two"


@pytest.mark.parametrize("payload", ["", "null", "[]", '{"user_id": 1', '{"user_id": "\\ud800"}', "{}" * 1_000])
def test_events_that_nobody_can_read_are_dead_with_a_reason(db: Database, payload: str) -> None:
    put_events(db, ["k"], event_type="memory.extract.requested", payload=payload)
    run(db)
    (event,) = rows(db, outbox_messages)
    assert event.status == "dead"
    assert "invalid payload" in event.last_error


def test_ten_thousand_messages_of_one_user_hold_back_nobody(sqlite_url: str) -> None:
    from smartmem.clock import ManualClock

    db = Database.open(sqlite_url, clock=ManualClock(START))
    append_messages(db, [message(1, f"fact {n}", client_message_id=str(n)) for n in range(10_000)])
    outbox, jobs = OutboxSettings(batch=500), JobSettings(batch=500)
    Relay(db, story.registry(jobs), outbox).drain()
    slow = Worker(db, [FactHandler()], jobs)
    held = slow._leases.claim(500, "someone else")  # the head of the long queue is in other hands
    append_messages(db, [message(2, "a single fact", client_message_id="x")])
    Relay(db, story.registry(jobs), outbox).drain()
    assert slow.run_once().success == 1
    with db.begin() as conn:
        slow._leases.release(conn, held.token, [row.id for row in held.rows])
    assert slow.drain().success == 10_000
    slow.close()
    story.check(
        db,
        [message(1, f"fact {n}", client_message_id=str(n)) for n in range(10_000)]
        + [message(2, "a single fact", client_message_id="x")],
        poison="",
    )
    db.close()


def test_a_clock_that_jumps_back_an_hour_stops_nothing(db: Database) -> None:
    append_messages(db, [message(user, "fact", client_message_id="1") for user in (1, 2)])
    clock_of(db).advance(-3600)  # both events are now due in an hour
    append_messages(db, [message(1, "later fact", client_message_id="2")])
    run(db)
    assert set(statuses(db, outbox_messages)) == {"consumed"}
    assert statuses(db) == ["success"] * 3
    clock_of(db).advance(-3600)
    append_messages(db, [message(2, "last", client_message_id="3")])
    run(db)
    assert statuses(db) == ["success"] * 4


# --- EXPLAIN: the hot statements go by their index, also when the history is long ------------------------------------


def plan(db: Database, statement: str) -> str:
    with db.read() as conn:
        if db.dialect == "sqlite":
            return " ".join(str(row[3]) for row in conn.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}"))
        return " ".join(f"{row.type} {row.key}" for row in conn.exec_driver_sql(f"EXPLAIN {statement}"))


ADR = (Path(__file__).parents[2] / "docs/adr/0002-leases.md").read_text("utf-8")
HOT = {
    "candidates": (
        "SELECT id,due_at FROM memory_jobs WHERE due_at<='2026-01-01 00:00:00.000000' ORDER BY due_at,id LIMIT 100",
        "ix_memory_jobs_due",
    ),
    "lock": (
        "SELECT id,order_key FROM memory_jobs{by_key} WHERE id IN (1,2,3) AND due_at<='2026-01-01 00:00:00.000000'"
        " ORDER BY id{skip}",
        "PRIMARY",
    ),
    "take, renew, finish, fail": (
        "UPDATE memory_jobs SET status='success' WHERE id IN (1,2,3) AND status='processing' AND lease_token='t'",
        "PRIMARY",
    ),
    "history of what was enqueued": (
        "SELECT id FROM memory_jobs WHERE id>4010 AND lease_token='t'",
        "PRIMARY",
    ),
    "heads": (
        "SELECT order_key,MIN(id) FROM memory_jobs WHERE order_key IN ('u1','u2') AND id<4000 AND id NOT IN (1,2)"
        " GROUP BY order_key",
        "ix_memory_jobs_order",
    ),
    "dead letters": (
        "SELECT id FROM memory_jobs WHERE dead_at IS NOT NULL ORDER BY dead_at DESC,id DESC LIMIT 10",
        "ix_memory_jobs_dead",
    ),
    "candidates of the outbox": (
        "SELECT id,due_at FROM outbox_messages WHERE due_at<='2026-01-01 00:00:00.000000' ORDER BY due_at,id LIMIT 100",
        "ix_outbox_messages_due",
    ),
}


def test_hot_statements_use_their_index(db: Database) -> None:
    finished: dict[str, Any] = {
        "user_id": 1, "job_type": "extract", "payload": "{}", "trace_id": "t", "job_key": "u1", "status": "success",
        "retry_count": 0, "max_retry": 6, "created_at": START, "updated_at": START,
    }  # fmt: skip
    with db.begin() as conn:
        conn.execute(insert(memory_jobs), [finished | {"idempotency_key": f"k{n}"} for n in range(4_000)])
        open_one = {"status": "pending", "due_at": START, "order_key": "u1"}
        conn.execute(insert(memory_jobs), [finished | open_one | {"idempotency_key": f"o{n}"} for n in range(20)])
        if db.dialect == "mysql":
            conn.exec_driver_sql("ANALYZE TABLE memory_jobs")
    put_events(db, ["a"] * 5)
    for name, (statement, index) in HOT.items():
        on_server = {"by_key": " FORCE INDEX (PRIMARY)", "skip": " FOR UPDATE SKIP LOCKED"}
        told = plan(db, statement.format(**(on_server if db.dialect == "mysql" else dict.fromkeys(on_server, ""))))
        theirs = "INTEGER PRIMARY KEY" if db.dialect == "sqlite" and index == "PRIMARY" else index
        assert theirs in told, f"{name}: {told}"
        assert f"| {name} | `{index}` |" in ADR, f"docs/adr/0002-leases.md does not tell the plan of {name!r}"
        assert "SCAN memory_jobs USING INDEX" not in told or "dead" in name, told
        assert "ALL None" not in told, told


def test_a_resent_message_is_found_without_reading_the_table(db: Database) -> None:
    sent = [message(1 + n % 20, f"fact {n}", client_message_id=str(n)) for n in range(2_000)]
    append_messages(db, sent)
    if db.dialect == "mysql":
        with db.begin() as conn:
            conn.exec_driver_sql("ANALYZE TABLE chat_messages")
    asked: list[tuple[str, Any]] = []

    def keep(_conn: Any, _cursor: Any, statement: str, params: Any, *_: Any) -> None:
        if statement.startswith("SELECT") and "FROM chat_messages" in statement:
            asked.append((statement, params))

    event.listen(db.engine, "before_cursor_execute", keep)
    again = append_messages(db, [sent[3], sent[4], sent[24]])
    event.remove(db.engine, "before_cursor_execute", keep)
    assert [one.created for one in again if isinstance(one, Appended)] == [False] * 3
    assert asked, "the look-up of what is stored already was not seen"
    with db.read() as conn:
        for statement, params in asked:
            head = "EXPLAIN QUERY PLAN" if db.dialect == "sqlite" else "EXPLAIN"
            rows = conn.exec_driver_sql(f"{head} {statement}", params).all()
            told = " ".join(str(row[3]) for row in rows)  # SQLite: the step in words; MariaDB: the type of access
            assert "SCAN chat_messages" not in told, told
            assert "ALL" not in told.split(), told
