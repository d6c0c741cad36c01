"""What happens seldom in the pipeline, and must then be right: leases lost amid an answer, interrupts, outages."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.engine import Connection

from smartmem.db import connect, dead_letters, schema
from smartmem.db.dead_letters import DeadLetters
from smartmem.db.engine import Database
from smartmem.db.leases import JOBS, Leases
from smartmem.db.tables import memory_jobs, outbox_messages
from smartmem.errors import BadRecord, StoreUnavailable
from smartmem.jobs import enqueue
from smartmem.jobs.heartbeat import Heartbeat
from smartmem.jobs.queue import dump
from smartmem.jobs.worker import Worker
from smartmem.outbox.events import Event, EventRegistry
from smartmem.outbox.publish import publish_many
from smartmem.outbox.queue import OutboxQueue
from smartmem.outbox.relay import Relay
from smartmem.settings import ExtractSettings, JobSettings, OutboxSettings
from tests.contract.test_leases import put as put_jobs
from tests.contract.test_outbox import asked
from tests.contract.test_relay import AlsoHappened, Book, happened, put, relay
from tests.support.handlers import ScriptedHandler
from tests.support.pipeline import START, clock_of, history, put_events, rows, statuses


def raising(*errors: BaseException) -> EventRegistry:
    """A handler that raises these in turn, then nothing."""
    left = list(errors)

    def handle(conn: Connection, events: Sequence[Event]) -> None:
        if left:
            raise left.pop(0)

    made = EventRegistry()
    for payload in (type(happened("a", 1)), AlsoHappened):
        made.register(payload, handle)
    return made


# --- the relay --------------------------------------------------------------------------------------------------


def test_an_interrupted_relay_gives_its_leases_back(db: Database) -> None:
    put(db, happened("a", 1), happened("b", 2))
    one = Relay(db, raising(KeyboardInterrupt()), OutboxSettings())
    with pytest.raises(KeyboardInterrupt):
        one.run_once()
    assert statuses(db, outbox_messages) == ["pending", "pending"]
    assert relay(db, Book()).run_once().consumed == 2  # at once, by another
    assert [row.retry_count for row in rows(db, outbox_messages)] == [0, 0]


def test_an_outage_amid_single_events_is_no_failure_of_theirs(db: Database) -> None:
    put(db, happened("a", 1), happened("b", 2))
    one = Relay(db, raising(RuntimeError("the batch fails"), StoreUnavailable("gone")), OutboxSettings())
    with pytest.raises(StoreUnavailable):
        one.run_once()
    assert one.run_once().consumed == 2  # what was left is given back first
    assert [row.retry_count for row in rows(db, outbox_messages)] == [0, 0]


def test_unusable_events_that_another_relay_has_taken_are_left_to_it(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_events(db, ["a"], event_type="nobody.handles")
    slow = relay(db, Book())
    sort = slow._sort

    def stopped_for_a_minute(claimed: Sequence[Any]) -> Any:
        clock_of(db).advance(61)
        assert relay(db, Book()).run_once().dead == 1
        return sort(claimed)

    monkeypatch.setattr(slow, "_sort", stopped_for_a_minute)
    counts = slow.run_once()
    assert (counts.dead, counts.lost) == (0, 1)
    assert statuses(db, outbox_messages) == ["dead"]


def test_a_stage_of_which_every_key_is_blocked_is_left_for_later(db: Database) -> None:
    put(db, happened("a", 1), AlsoHappened(key="a", n=2, trace_id="t"))
    book = Book(lambda payload: ValueError("not yet") if payload.n == 1 else None)
    assert relay(db, book).run_once().failed == 1
    assert 2 not in [n for call in book.calls for n in call]
    assert statuses(db, outbox_messages) == ["failed", "pending"]


def test_events_are_listed_by_each_of_their_states(db: Database) -> None:
    put(db, happened("a", 1), happened("b", 2))
    relay(db, Book(), batch=1).run_once()
    queue = OutboxQueue(db, OutboxSettings())
    listed = {state: [row.message_key for row in queue.list(status=state)] for state in ("consumed", "pending", "dead")}
    assert listed == {"consumed": ["a"], "pending": ["b"], "dead": []}


# --- workers and their leases -------------------------------------------------------------------------------------


def test_of_several_failures_those_whose_lease_is_lost_are_dropped_and_the_others_counted(db: Database) -> None:
    a, b, c = put_jobs(db, 1, 2, 3)

    def stolen(job: Any) -> Exception:
        if job.id == a:
            clock_of(db).advance(61)
            thief = Worker(db, [ScriptedHandler()], JobSettings(batch=1), worker_id="thief")
            assert thief.run_once().success == 1
        return RuntimeError("no")

    counts = Worker(db, [ScriptedHandler(stolen)], JobSettings(), worker_id="w1").run_once()
    assert (counts.failed, counts.lost) == (2, 1)
    found = {row.id: row.status for row in rows(db)}
    assert found == {a: "success", b: "failed", c: "failed"}


def test_an_outage_amid_single_jobs_is_not_an_attempt(db: Database) -> None:
    put_jobs(db, 1, 2)
    outcomes: list[Exception] = [RuntimeError("the batch fails"), StoreUnavailable("gone")]

    def effect(conn: Connection, done: Sequence[Any]) -> None:
        if outcomes:
            raise outcomes.pop(0)

    one = Worker(db, [ScriptedHandler(effect=effect)], JobSettings(), worker_id="w1")
    with pytest.raises(StoreUnavailable):
        one.run_once()
    assert one.run_once().success == 2
    assert [row.retry_count for row in rows(db)] == [0, 0]


def test_nothing_to_release_is_no_statement(db: Database) -> None:
    leases = Leases(db, JOBS, JobSettings())
    with db.begin() as conn:
        assert leases.release(conn, "token", []) == 0


def test_a_leased_row_behind_its_head_is_not_parked(db: Database) -> None:
    """An expired row whose key has an earlier one in back-off keeps its own time: only the head decides."""
    first, second = put_jobs(db, 1, 1)
    leases = Leases(db, JOBS, JobSettings(lease_s=60))
    both = leases.claim(2, "w1")
    with db.begin() as conn:
        conn.execute(
            memory_jobs.update()
            .where(memory_jobs.c.id == first)
            .values(status="failed", lease_token=None, due_at=db.now() + dt.timedelta(seconds=100))
        )
    clock_of(db).advance(61)
    assert [row.id for row in leases.claim(2, "w2").rows] == []
    held = next(row for row in rows(db) if row.id == second)
    assert (held.status, held.lease_token) == ("processing", both.token)


def test_a_heartbeat_without_a_database_goes_on(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fence decides in the end; a beat that is missed is no reason to stop beating."""
    leases = Leases(db, JOBS, JobSettings())
    beats: list[int] = []
    enough = threading.Event()

    def renew(token: str, ids: Sequence[int]) -> set[int]:
        beats.append(len(beats))
        if len(beats) == 1:
            raise StoreUnavailable("away")
        enough.set()
        return {7}

    monkeypatch.setattr(leases, "renew", renew)
    beat = Heartbeat(leases, 0.001)
    with beat.over("token", [7, 8]):
        assert enough.wait(20)
        beat.close()
        assert beat.lost == {7}


def test_a_store_that_is_away_fails_each_job_of_the_call(db: Database) -> None:
    put_jobs(db, 1, 2)

    class Away(ScriptedHandler):
        def prepare(self, jobs: Sequence[Any]) -> Sequence[Any]:
            raise StoreUnavailable("the vector store is away")

    assert Worker(db, [Away()], JobSettings(), worker_id="w1").run_once().failed == 2
    assert {row.last_error for row in rows(db)} == {"StoreUnavailable: the vector store is away"}


def test_an_event_of_which_no_text_is_left_is_dead_with_the_reason(db: Database) -> None:
    with db.begin() as conn:
        publish_many(conn, [asked(7, source_text="      tea, please")])
    registry = EventRegistry()
    enqueue.register(registry, ExtractSettings(max_chars=5), JobSettings())
    assert Relay(db, registry, OutboxSettings()).run_once().dead == 1
    assert "no text is left within 5 characters" in rows(db, outbox_messages)[0].last_error
    assert rows(db) == []


def test_a_payload_s_times_are_written_as_iso() -> None:
    assert dump({"at": START}) == '{"at":"2026-01-01T00:00:00Z"}'


def test_a_payload_that_json_cannot_say_is_refused() -> None:
    for value in (object(), "\ud800", {1.5: object}):
        with pytest.raises(BadRecord, match="cannot be written as JSON"):
            dump({"a": value})


def test_prune_goes_page_by_page_up_to_its_limit(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead_letters, "PAGE", 2)
    made = put_jobs(db, *range(1, 9))
    _finish(db, 7)
    clock_of(db).advance(8 * 86400)
    letters = DeadLetters(db, JOBS, JobSettings())
    week = dt.timedelta(days=7)
    assert letters.prune(week, limit=3) == 3
    assert [row.id for row in rows(db)] == made[3:]
    assert letters.prune(week) == 4
    assert history(db, made[6]) == []


def test_no_id_of_a_pruned_job_is_given_again(db: Database) -> None:
    """Audit rows and decisions outlive the job that they name. SQLite counts on from the highest id that is there."""
    made = put_jobs(db, 1, 2)
    _finish(db, 2)
    clock_of(db).advance(8 * 86400)
    assert DeadLetters(db, JOBS, JobSettings()).prune(dt.timedelta(days=7)) == (1 if db.dialect == "sqlite" else 2)
    assert put_jobs(db, 3)[-1] > made[-1]


def _finish(db: Database, count: int) -> None:
    leases = Leases(db, JOBS, JobSettings())
    claim = leases.claim(count, "w1")
    with db.begin() as conn:
        leases.finish(conn, claim.token, [row.id for row in claim.rows])


# --- the database ---------------------------------------------------------------------------------------------------


@pytest.mark.mariadb
def test_a_connection_that_died_in_the_pool_is_replaced(mariadb_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connect, "IDLE_CHECK_S", 0)
    db = Database.open(mariadb_url)
    db.migrate()
    rows(db)
    with db.engine.connect() as conn:
        raw = conn.connection.dbapi_connection
        assert raw is not None
    raw.close()  # behind the pool's back, as a server's restart or an idle time-out does
    assert rows(db) == []
    db.close()


@pytest.mark.mariadb
def test_behind_a_proxy_that_hides_the_mode_backslashes_are_escaped(mariadb_url: str) -> None:
    db = Database.open(mariadb_url)
    with db.engine.connect() as conn:
        assert "NO_BACKSLASH_ESCAPES" in conn.exec_driver_sql("SELECT @@sql_mode").scalar_one()
        driver: Any = conn.connection.driver_connection
        driver.server_status = 0
        connect._agree_on_backslashes(driver, conn.connection._connection_record)
        assert "NO_BACKSLASH_ESCAPES" not in conn.exec_driver_sql("SELECT @@sql_mode").scalar_one()
        assert conn.exec_driver_sql("SELECT %s", ("a\\' b",)).scalar_one() == "a\\' b"
        conn.invalidate()
    db.close()


def test_a_pool_that_is_used_up_says_so(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(db.engine.pool, "_timeout", 0.001)
    monkeypatch.setattr(db.engine.pool, "_max_overflow", 0)
    held = [db.engine.connect() for _ in range(8)]
    try:
        with pytest.raises(StoreUnavailable, match="connections of this process are in use"):
            rows(db)
    finally:
        for conn in held:
            conn.close()
    assert rows(db) == []


@pytest.mark.mariadb
def test_a_migration_that_waits_too_long_for_another_says_so(mariadb_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "LOCK_S", 0)
    first, second = Database.open(mariadb_url), Database.open(mariadb_url)
    name = f"smartmem.migrate.{first.engine.url.database}"[:64]
    with first.engine.connect() as holder:
        assert holder.execute(text("SELECT GET_LOCK(:name, 0)"), {"name": name}).scalar() == 1
        with pytest.raises(StoreUnavailable, match="another process has been migrating"):
            second.migrate()
    first.close()
    second.close()
