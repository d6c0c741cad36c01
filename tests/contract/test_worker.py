"""The worker: prepare outside, apply and finish together; order, isolation, leases, graceful stop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import insert
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from smartmem.db.engine import Database
from smartmem.db.tables import memory_decisions, memory_jobs
from smartmem.errors import DataError, StoreUnavailable, TransientModelError
from smartmem.jobs.queue import enqueue
from smartmem.jobs.types import Job, Prepared
from smartmem.jobs.worker import Worker
from smartmem.settings import JobSettings
from tests.support.handlers import ScriptedHandler
from tests.support.net import poll
from tests.support.pipeline import START, clock_of, history, job, rows, statuses

SETTINGS = JobSettings(batch=50)


def put(db: Database, *users: int, max_retry: int = 6, **changes: Any) -> list[int]:
    with db.begin() as conn:
        enqueue(conn, [job(user, **changes) for user in users], max_retry=max_retry)
    return [row.id for row in rows(db)][-len(users) :]


def record(conn: Connection, done: Sequence[Prepared]) -> None:
    """An effect with a unique key on the job, so that a second one is an error."""
    conn.execute(
        insert(memory_decisions),
        [
            {
                "job_id": one.job.id,
                "fact_index": 0,
                "user_id": one.job.user_id,
                "mode": "test",
                "operation": "ADD",
                "written": "ADD",
                "fact": str(one.value),
                "trace_id": "t",
                "created_at": START,
            }
            for one in done
        ],
    )


def effects(db: Database) -> list[int]:
    return [row.job_id for row in rows(db, memory_decisions)]


def worker(db: Database, *handlers: ScriptedHandler, settings: JobSettings = SETTINGS) -> Worker:
    return Worker(db, handlers, settings, worker_id="w1")


@pytest.fixture(autouse=True)
def _no_thread_left() -> Any:
    before = set(threading.enumerate())  # a pool that another test's library keeps is none of the worker's
    yield
    for thread in set(threading.enumerate()) - before:
        assert thread.daemon


def test_a_batch_is_prepared_and_applied_at_once(db: Database) -> None:
    made = put(db, 1, 2, 1)
    handler = ScriptedHandler(lambda job: job.payload["source_text"], effect=record)
    counts = worker(db, handler).run_once()
    assert (counts.claimed, counts.success) == (3, 3)
    assert handler.prepared == handler.applied == [made]
    assert effects(db) == made
    row = rows(db)[0]
    assert (row.status, row.outcome, row.worker_id, row.finished_at) == ("success", "facts", "w1", db.now())
    assert history(db, made[0]) == [(None, "pending", 0), ("pending", "processing", 1), ("processing", "success", 1)]


def test_results_are_stored_with_their_job(db: Database) -> None:
    put(db, 1, 2, 3)

    class Telling(ScriptedHandler):
        def apply(self, conn: Connection, done: Sequence[Prepared]) -> Sequence[Prepared]:
            return [Prepared(job=one.job, outcome="nothing", result={"n": one.job.user_id % 2}) for one in done]

    worker(db, Telling()).run_once()
    assert [(row.outcome, row.result) for row in rows(db)] == [
        ("nothing", '{"n":1}'),
        ("nothing", '{"n":0}'),
        ("nothing", '{"n":1}'),
    ]


def test_a_sequential_handler_gets_one_job_of_a_user_a_call(db: Database) -> None:
    a, b, c, d = put(db, 1, 1, 2, 1)
    handler = ScriptedHandler(sequential=True)
    assert worker(db, handler).run_once().success == 4
    assert handler.prepared == [[a, c], [b], [d]]


def test_types_go_to_their_handlers_and_others_are_left_alone(db: Database) -> None:
    put(db, 1, job_type="embed")
    put(db, 1)
    extract, embed = ScriptedHandler(), ScriptedHandler(job_type="embed")
    assert worker(db, extract).drain().success == 1
    assert statuses(db) == ["pending", "success"]
    assert worker(db, extract, embed).drain().success == 1
    assert statuses(db) == ["success", "success"]


def test_a_failing_job_keeps_back_only_its_user(db: Database) -> None:
    a, b, c = put(db, 1, 2, 1)
    trouble = [TransientModelError("overloaded")]
    handler = ScriptedHandler(lambda job: trouble[0] if trouble and job.id == a else None, effect=record)
    one = worker(db, handler)
    counts = one.run_once()
    assert (counts.success, counts.failed, counts.released) == (1, 1, 1)
    assert effects(db) == [b]
    assert statuses(db) == ["failed", "success", "pending"]
    assert rows(db)[0].last_error == "TransientModelError: overloaded"
    assert one.run_once().claimed == 0
    trouble.clear()
    clock_of(db).advance(1)
    assert one.run_once().success == 2
    assert effects(db) == [b, a, c]
    assert [row.retry_count for row in rows(db)] == [1, 0, 0]


def test_what_came_before_the_failure_is_kept(db: Database) -> None:
    a, b, _ = put(db, 1, 1, 1)
    handler = ScriptedHandler(lambda job: RuntimeError("no") if job.id == b else None, effect=record)
    counts = worker(db, handler).run_once()
    assert (counts.success, counts.failed, counts.released) == (1, 1, 1)
    assert effects(db) == [a]


def test_a_data_error_is_dead_at_once_and_the_next_goes(db: Database) -> None:
    a, b = put(db, 1, 1)
    handler = ScriptedHandler(lambda job: DataError("unreadable") if job.id == a else None, effect=record)
    counts = worker(db, handler).drain()
    assert (counts.dead, counts.success) == (1, 1)
    assert statuses(db) == ["dead", "success"]
    assert effects(db) == [b]


def test_a_prepare_that_raises_is_asked_one_by_one(db: Database) -> None:
    made = put(db, 1, 2, 3)

    class Fragile(ScriptedHandler):
        def prepare(self, jobs: Sequence[Job]) -> Sequence[Prepared | Exception]:
            if any(one.id == made[1] for one in jobs):
                raise RuntimeError("poison")
            return super().prepare(jobs)

    counts = worker(db, Fragile(effect=record)).run_once()
    assert (counts.success, counts.failed) == (2, 1)
    assert effects(db) == [made[0], made[2]]


def test_an_apply_that_raises_goes_row_by_row(db: Database) -> None:
    a, b, c, d = put(db, 1, 2, 1, 1)

    def effect(conn: Connection, done: Sequence[Prepared]) -> None:
        record(conn, done)
        if any(one.job.id == c for one in done):
            raise RuntimeError("poison")

    counts = worker(db, ScriptedHandler(effect=effect)).run_once()
    assert (counts.success, counts.failed, counts.released) == (2, 1, 1)
    assert effects(db) == [a, b]
    assert statuses(db) == ["success", "success", "failed", "pending"]
    assert d


def test_an_answer_short_of_its_jobs_is_an_error(db: Database) -> None:
    put(db, 1, 2)

    class Short(ScriptedHandler):
        def prepare(self, jobs: Sequence[Job]) -> Sequence[Prepared | Exception]:
            return super().prepare(jobs)[:-1]

    assert worker(db, Short()).run_once().dead == 2
    assert "answered 0 of 1" in rows(db)[0].last_error


def test_no_handler_and_no_json_are_dead_with_a_reason(db: Database) -> None:
    put(db, 1, 2)
    with db.begin() as conn:
        conn.execute(memory_jobs.update().where(memory_jobs.c.user_id == 1).values(payload="{"))
        conn.execute(memory_jobs.update().where(memory_jobs.c.user_id == 2).values(job_type="unheard-of"))
    handlers = [ScriptedHandler(job_type=kind) for kind in ("extract", "embed", "reconcile")]
    assert worker(db, *handlers).run_once().dead == 2
    told = [row.last_error for row in rows(db)]
    assert "not JSON" in told[0]
    assert "no handler for job type 'unheard-of'" in told[1]


def test_a_job_that_always_fails_ends_dead(db: Database) -> None:
    put(db, 1, max_retry=3)
    one = worker(db, ScriptedHandler(lambda job: RuntimeError(f"attempt {job.attempt}")))
    for _ in range(3):
        one.run_once()
        clock_of(db).advance(60)
    assert statuses(db) == ["dead"]
    assert rows(db)[0].last_error == "RuntimeError: attempt 3"


def test_a_stolen_job_is_dropped_and_the_rest_kept(db: Database) -> None:
    """Between claim and finish one job goes to another worker: its effects here are rolled back."""
    a, b = put(db, 1, 2)

    def stolen(job: Job) -> None:
        if job.id == a:
            clock_of(db).advance(61)
            thief = ScriptedHandler(effect=record)
            assert worker(db, thief, settings=JobSettings(batch=1)).run_once().success == 1

    counts = worker(db, ScriptedHandler(stolen, effect=record)).run_once()
    assert (counts.success, counts.lost) == (1, 1)
    assert sorted(effects(db)) == [a, b]
    assert statuses(db) == ["success", "success"]


def test_success_on_a_final_job_changes_nothing(db: Database) -> None:
    (a,) = put(db, 1)

    def forgotten(job: Job) -> None:
        if job.attempt == 1:
            clock_of(db).advance(61)
            worker(db, ScriptedHandler(effect=record)).run_once()

    assert worker(db, ScriptedHandler(forgotten, effect=record)).run_once().lost == 1
    assert effects(db) == [a]
    assert [to for _, to, _ in history(db, a)] == ["pending", "processing", "processing", "success"]


def test_the_heartbeat_keeps_a_slow_job(any_url: str) -> None:
    db = Database.open(any_url)  # real time: the heartbeat is a thread
    put(db, 1)
    settings = JobSettings(lease_s=0.6, renew_s=0.1)
    other = Worker(db, [ScriptedHandler()], settings)
    renewed = threading.Event()

    def slow(job: Job) -> None:
        first = rows(db)[0].due_at
        assert poll(lambda: (rows(db)[0].due_at - first).total_seconds() > 0.7, seconds=10)
        assert other.run_once().claimed == 0
        renewed.set()

    one = Worker(db, [ScriptedHandler(slow)], settings)
    assert one.run_once().success == 1
    assert renewed.is_set()
    one.close()
    other.close()
    db.close()


def test_work_stops_when_a_renewal_reports_a_loss(any_url: str) -> None:
    db = Database.open(any_url)
    a, b = put(db, 1, 1)
    settings = JobSettings(lease_s=30, renew_s=0.05)
    calls: list[int] = []

    def slow(job: Job) -> None:
        calls.append(job.id)
        with db.begin() as conn:  # as an operator's replay of an earlier row would
            conn.execute(memory_jobs.update().values(lease_token="other"))
        assert poll(lambda: b in one._heartbeat.lost, seconds=10)

    one = Worker(db, [ScriptedHandler(slow, sequential=True, effect=record)], settings)
    assert one.run_once().lost == 2
    assert calls == [a]
    assert effects(db) == []
    one.close()
    db.close()


def test_run_stops_gracefully_and_releases_what_it_holds(any_url: str) -> None:
    db = Database.open(any_url)
    put(db, *range(1, 6))
    stop = threading.Event()
    handler = ScriptedHandler(effect=record)
    one = Worker(db, [handler], JobSettings(batch=2))
    thread = threading.Thread(target=lambda: one.run(stop))
    thread.start()
    assert poll(lambda: set(statuses(db)) == {"success"}, seconds=20)
    put(db, 6)  # the doorbell wakes it long before the poll
    assert poll(lambda: set(statuses(db)) == {"success"}, seconds=20)
    stop.set()
    thread.join(10)
    assert not thread.is_alive()
    db.close()


def test_an_interrupt_gives_the_leases_back(db: Database) -> None:
    put(db, 1, 2)

    class Interrupted(ScriptedHandler):
        def prepare(self, jobs: Sequence[Job]) -> Sequence[Prepared | Exception]:
            raise KeyboardInterrupt

    one = worker(db, Interrupted())
    with pytest.raises(KeyboardInterrupt):
        one.run_once()
    assert statuses(db) == ["pending", "pending"]


def test_an_outage_in_mid_batch_is_not_an_attempt(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    put(db, 1)
    one = worker(db, ScriptedHandler(effect=record))
    run = db.run
    monkeypatch.setattr(one, "_commit", lambda *_: (_ for _ in ()).throw(StoreUnavailable("gone")))
    with pytest.raises(StoreUnavailable):
        one.run_once()
    monkeypatch.undo()
    assert run
    assert one.run_once().success == 1  # at once: the lease was given back, not waited for
    assert rows(db)[0].retry_count == 0


def test_an_effect_that_breaks_a_unique_key_fails_its_job(db: Database) -> None:
    a, b = put(db, 1, 2)

    def twice(conn: Connection, done: Sequence[Prepared]) -> None:
        record(conn, done)
        if any(one.job.id == a for one in done):
            record(conn, [one for one in done if one.job.id == a])

    counts = worker(db, ScriptedHandler(effect=twice)).run_once()
    assert (counts.success, counts.failed) == (1, 1)
    assert IntegrityError.__name__ in rows(db)[0].last_error
    assert effects(db) == [b]


def test_drain_stops_near_its_limit(db: Database) -> None:
    put(db, *range(1, 11))
    assert worker(db, ScriptedHandler(), settings=JobSettings(batch=2)).drain(limit=4).success == 4


@pytest.mark.parametrize("error", [SystemExit(1), asyncio.CancelledError()], ids=["exit", "cancelled"])
@pytest.mark.parametrize("step", ["prepare", "apply"])
def test_what_is_no_exception_still_fails_its_job_alone(db: Database, error: BaseException, step: str) -> None:
    """Else a job whose handler calls sys.exit() would end one worker after the other, uncounted."""
    bad, good = put(db, 1, 2, max_retry=1)

    def hurt(one: Job) -> None:
        if one.id == bad:
            raise error

    def effect(conn: Connection, done: Sequence[Prepared]) -> None:
        for one in done:
            hurt(one.job)
        record(conn, done)

    handler = ScriptedHandler(hurt, effect=record) if step == "prepare" else ScriptedHandler(effect=effect)
    one = worker(db, handler)
    counts = one.run_once()
    assert (counts.success, counts.dead) == (1, 1)
    assert effects(db) == [good]
    assert type(error).__name__ in rows(db)[0].last_error


def test_a_worker_with_a_type_of_its_own_leaves_the_others_alone(db: Database) -> None:
    put(db, 1, job_type="embed")
    put(db, 2, job_type="digest")
    one = worker(db, ScriptedHandler(effect=record, job_type="digest"), ScriptedHandler())
    assert one.drain().success == 1
    assert statuses(db) == ["pending", "success"]
