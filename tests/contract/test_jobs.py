"""The queue: enqueueing once, looking, counting, dead letters."""

from __future__ import annotations

import pytest

from smartmem.db.dead_letters import DeadFilter
from smartmem.db.engine import Database
from smartmem.db.leases import JOBS, Failure, Leases
from smartmem.errors import BadRecord, DataError
from smartmem.jobs.queue import JobQueue
from smartmem.settings import JobSettings
from tests.support.pipeline import clock_of, history, job, rows, statuses


@pytest.fixture
def queue(db: Database) -> JobQueue:
    return JobQueue(db, JobSettings())


def kill(db: Database, count: int, reason: str = "boom") -> None:
    leases = Leases(db, JOBS, JobSettings())
    claim = leases.claim(count, "w1")
    with db.begin() as conn:
        leases.fail(conn, claim.token, [Failure(claimed=row, error=reason, permanent=True) for row in claim.rows])


def test_a_key_enqueues_once_for_ever(db: Database, queue: JobQueue) -> None:
    assert queue.enqueue([job(1, key="a"), job(2, key="b"), job(3, key="a")]) == 2
    assert queue.enqueue([job(1, key="a"), job(4, key="c")]) == 1
    assert [(row.idempotency_key, row.user_id) for row in rows(db)] == [("a", 1), ("b", 2), ("c", 4)]
    for row in rows(db):
        assert history(db, row.id) == [(None, "pending", 0)]
    kill(db, 5)
    assert queue.enqueue([job(1, key="a")]) == 0  # a redelivery does not wake the dead; a replay does
    assert queue.enqueue([]) == 0


def test_jobs_keep_their_order(db: Database, queue: JobQueue) -> None:
    queue.enqueue([job(1, key=key) for key in "dacb"])
    assert [row.idempotency_key for row in rows(db)] == list("dacb")


def test_keys_that_do_not_fit_are_hashed_not_cut(db: Database, queue: JobQueue) -> None:
    same_start = "k" * 200
    assert queue.enqueue([job(1, key=same_start + "1"), job(1, key=same_start + "2"), job(1, key="钥匙")]) == 3
    assert queue.enqueue([job(1, key=same_start + "1"), job(1, key="钥匙")]) == 0


def test_a_payload_that_is_not_json_is_refused(db: Database, queue: JobQueue) -> None:
    with pytest.raises(BadRecord):
        queue.enqueue([job(1, bad=object())])
    assert rows(db) == []


def test_list_and_depth(db: Database, queue: JobQueue) -> None:
    queue.enqueue([job(1), job(2), job(2, job_type="embed")])
    clock_of(db).advance(9)
    assert [row.user_id for row in queue.list(user_id=2)] == [2, 2]
    assert [row.job_type for row in queue.list(job_type="embed", status="pending")] == ["embed"]
    assert len(queue.list(limit=1, offset=1)) == 1
    with pytest.raises(ValueError, match="nonsense"):
        queue.list(status="nonsense")
    depth = queue.depth()
    assert (depth.by_status, depth.unfinished, depth.dead, depth.oldest_age_s) == ({"pending": 3}, 3, 0, 9)
    kill(db, 5)
    for finished in (True, False):
        depth = queue.depth(finished=finished)
        assert (depth.unfinished, depth.dead, depth.oldest_age_s) == (0, 3, None)
    assert len(queue.list(status="dead")) == 3


def test_show_tells_the_history(db: Database, queue: JobQueue) -> None:
    queue.enqueue([job(1)])
    kill(db, 1, "no such thing")
    row, states = queue.get(rows(db)[0].id)
    assert row.last_error == "no such thing"
    assert [(state.to_status, state.reason) for state in states] == [
        ("pending", "enqueued"),
        ("processing", None),
        ("dead", "no such thing"),
    ]
    assert states[1].worker_id == "w1"
    with pytest.raises(DataError, match="999"):
        queue.get(999)


def test_replay_by_type_reason_and_dry(db: Database, queue: JobQueue) -> None:
    queue.enqueue([job(1), job(2)])
    kill(db, 1, "quota 100% reached")
    kill(db, 1, "other")
    ids = [row.id for row in rows(db)]
    assert queue.replay(DeadFilter(reason_like="100%"), dry_run=True) == ids[:1]
    assert queue.replay(DeadFilter(reason_like="1%0"), dry_run=True) == []  # % is a character, not a pattern
    assert queue.replay(DeadFilter(kind="extract", reason_like="other")) == ids[1:]
    assert statuses(db) == ["dead", "pending"]
    assert history(db, ids[1])[-1] == ("dead", "pending", 1)
    assert rows(db)[1].order_key == "u2"
