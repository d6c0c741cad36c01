"""Claim, renew, finish, fail, release: the same on every database."""

from __future__ import annotations

import datetime as dt
import random

import pytest
from sqlalchemy import select, update

from smartmem.db.dead_letters import DeadFilter, DeadLetters
from smartmem.db.engine import Database
from smartmem.db.leases import JOBS, OUTBOX, Claim, Failure, Leases
from smartmem.db.tables import memory_jobs, outbox_messages
from smartmem.errors import DataError, StaleLease
from smartmem.jobs.queue import enqueue
from smartmem.settings import JobSettings, OutboxSettings
from tests.support.pipeline import clock_of, history, job, put_events, rows, statuses

SETTINGS = JobSettings(lease_s=60)


@pytest.fixture
def leases(db: Database) -> Leases:
    return Leases(db, JOBS, SETTINGS)


def put(db: Database, *users: int, max_retry: int = 6) -> list[int]:
    with db.begin() as conn:
        enqueue(conn, [job(user) for user in users], max_retry=max_retry)
    return [row.id for row in rows(db)][-len(users) :]


def ids(claim: Claim) -> list[int]:
    return [row.id for row in claim.rows]


def fail(db: Database, leases: Leases, claim: Claim, *, permanent: bool = False) -> None:
    with db.begin() as conn:
        leases.fail(conn, claim.token, [Failure(claimed=row, error="boom", permanent=permanent) for row in claim.rows])


def finish(db: Database, leases: Leases, claim: Claim) -> None:
    with db.begin() as conn:
        leases.finish(conn, claim.token, ids(claim))


def test_a_claim_hides_rows_until_they_are_finished(db: Database, leases: Leases) -> None:
    made = put(db, 1, 2, 3)
    claim = leases.claim(2, "w1")
    assert ids(claim) == made[:2]
    assert ids(leases.claim(10, "w2")) == made[2:]
    assert ids(leases.claim(10, "w2")) == []
    finish(db, leases, claim)
    assert statuses(db) == ["success", "success", "processing"]
    first = rows(db)[0]
    assert (first.due_at, first.order_key, first.finished_at, first.started_at) == (None, None, db.now(), db.now())
    assert history(db, first.id) == [(None, "pending", 0), ("pending", "processing", 1), ("processing", "success", 1)]


def test_scheduling_columns_seen_by_status(db: Database, leases: Leases) -> None:
    put(db, 1)
    assert rows(db)[0].next_retry_at == db.now()
    leases.claim(1, "w1")
    row = rows(db)[0]
    assert row.next_retry_at is None
    assert (row.lease_expires_at - db.now()).total_seconds() == 60


def test_a_batch_may_hold_a_run_of_one_key(db: Database, leases: Leases) -> None:
    made = put(db, 1, 1, 1, 2)
    assert ids(leases.claim(10, "w1")) == made


def test_rows_behind_a_leased_head_wait(db: Database, leases: Leases) -> None:
    made = put(db, 1, 1, 1, 2, 2)
    first = leases.claim(2, "w1")
    assert ids(first) == made[:2]
    assert ids(leases.claim(10, "w2")) == made[3:]  # the third of user 1 has predecessors in other hands
    finish(db, leases, first)
    assert ids(leases.claim(10, "w2")) == made[2:3]


def test_a_row_in_back_off_holds_back_only_its_key(db: Database, leases: Leases) -> None:
    made = put(db, 1, *[1] * 30, 2)
    first = leases.claim(1, "w1")
    fail(db, leases, first)
    # The window of ten is full of user 1's blocked rows; user 2 is found behind it.
    assert ids(leases.claim(10, "w1")) == made[-1:]
    clock_of(db).advance(1)
    assert ids(leases.claim(100, "w1")) == made[:-1]


def test_blocked_rows_are_parked_behind_their_head(db: Database, leases: Leases) -> None:
    put(db, 1, 1, 1)
    fail(db, leases, leases.claim(1, "w1"))
    leases.claim(10, "w1")
    assert len({row.due_at for row in rows(db)}) == 1


def test_back_off_doubles_to_its_cap_and_ends_dead(db: Database, leases: Leases) -> None:
    put(db, 1, max_retry=8)
    waits = []
    for attempt in range(1, 9):
        claim = leases.claim(1, "w1")
        assert [row.attempt for row in claim.rows] == [attempt]
        fail(db, leases, claim)
        row = rows(db)[0]
        assert row.retry_count == attempt
        if row.due_at is not None:
            waits.append((row.due_at - db.now()).total_seconds())
            clock_of(db).advance(waits[-1] - 0.001)
            assert not leases.claim(1, "w1").rows
            clock_of(db).advance(0.001)
    assert waits == [1, 2, 4, 8, 16, 32, 32]
    assert statuses(db) == ["dead"]
    assert rows(db)[0].last_error == "boom"
    assert not leases.claim(1, "w1").rows


def test_full_jitter_stays_within_the_back_off(db: Database) -> None:
    leases = Leases(db, JOBS, JobSettings(jitter=True, backoff_s=(100,)), rng=random.Random(7))
    put(db, *range(1, 21))
    fail(db, leases, leases.claim(50, "w1"))
    waits = [(row.due_at - db.now()).total_seconds() for row in rows(db)]
    assert all(0 <= wait <= 100 for wait in waits)
    assert len(set(waits)) == 20


def test_a_permanent_error_is_dead_at_once_and_lets_the_next_go(db: Database, leases: Leases) -> None:
    made = put(db, 1, 1)
    fail(db, leases, leases.claim(1, "w1"), permanent=True)
    assert statuses(db) == ["dead", "pending"]
    assert ids(leases.claim(10, "w1")) == made[1:]


def test_an_expired_lease_is_claimable_and_counts(db: Database, leases: Leases) -> None:
    made = put(db, 1)
    old = leases.claim(1, "w1")
    clock_of(db).advance(60)
    new = leases.claim(1, "w2")
    assert ids(new) == made
    assert new.rows[0].attempt == 2
    assert "w1" in rows(db)[0].last_error
    with pytest.raises(StaleLease):
        finish(db, leases, old)
    with pytest.raises(StaleLease):
        fail(db, leases, old)
    assert leases.renew(old.token, made) == set(made)
    finish(db, leases, new)
    assert statuses(db) == ["success"]


def test_what_a_dead_process_held_comes_back_in_parts(db: Database, leases: Leases) -> None:
    """One of its rows may be what ended it, and must not take the others along."""
    made = put(db, *range(1, 21), max_retry=4)
    assert ids(leases.claim(16, "w1")) == made[:16]
    clock_of(db).advance(61)
    assert [ids(leases.claim(16, "w2")) for _ in range(2)] == [made[:2], made[2:4]]
    clock_of(db).advance(61)
    assert [ids(leases.claim(32, "w3")) for _ in range(2)] == [made[:1], made[1:2]]


def test_a_job_that_kills_its_worker_ends_dead(db: Database, leases: Leases) -> None:
    made = put(db, 1, 1, max_retry=3)
    for _ in range(3):
        assert ids(leases.claim(1, "w1")) == made[:1]
        clock_of(db).advance(61)
    claim = leases.claim(5, "w1")
    assert claim.died == 1
    assert ids(claim) == made[1:]
    assert statuses(db) == ["dead", "processing"]
    assert rows(db)[0].last_error.startswith("lease expired")
    assert history(db, made[0])[-1] == ("processing", "dead", 3)


def test_an_expired_lease_that_nobody_took_may_still_finish(db: Database, leases: Leases) -> None:
    put(db, 1)
    claim = leases.claim(1, "w1")
    clock_of(db).advance(600)
    finish(db, leases, claim)
    assert statuses(db) == ["success"]


def test_renewal_keeps_a_lease(db: Database, leases: Leases) -> None:
    made = put(db, 1)
    claim = leases.claim(1, "w1")
    for _ in range(5):
        clock_of(db).advance(50)
        assert leases.renew(claim.token, made) == set()
        assert not leases.claim(1, "w2").rows
    finish(db, leases, claim)


def test_a_lease_that_has_run_out_is_not_renewed(db: Database, leases: Leases) -> None:
    """Else one worker would hold a user's first row, and another the next."""
    made = put(db, 1, 1)
    old = leases.claim(2, "w1")
    clock_of(db).advance(61)
    new = leases.claim(1, "w2")
    assert ids(new) == made[:1]
    assert leases.renew(old.token, made) == set(made)
    assert leases.renew(new.token, ids(new)) == set()


def test_finish_is_all_or_nothing(db: Database, leases: Leases) -> None:
    made = put(db, 1, 2)
    claim = leases.claim(2, "w1")
    with db.begin() as conn:
        leases.finish(conn, claim.token, made[:1])
    with pytest.raises(StaleLease):
        finish(db, leases, claim)
    assert statuses(db) == ["success", "processing"]


def test_release_is_not_an_attempt(db: Database, leases: Leases) -> None:
    made = put(db, 1, 2)
    claim = leases.claim(2, "w1")
    with db.begin() as conn:
        leases.finish(conn, claim.token, made[:1])
        assert leases.release(conn, claim.token, made) == 1
    assert statuses(db) == ["success", "pending"]
    again = leases.claim(2, "w2")
    assert [row.attempt for row in again.rows] == [1]


def test_a_released_row_keeps_its_failures(db: Database, leases: Leases) -> None:
    put(db, 1)
    fail(db, leases, leases.claim(1, "w1"))
    clock_of(db).advance(1)
    claim = leases.claim(1, "w1")
    with db.begin() as conn:
        leases.release(conn, claim.token, ids(claim))
    assert statuses(db) == ["failed"]
    assert rows(db)[0].retry_count == 1


def test_rows_due_further_ahead_than_any_delay_are_pulled_back(db: Database, leases: Leases) -> None:
    """The clock was an hour ahead when the row was written or leased, and was then put right."""
    made = put(db, 1, 2)
    held = leases.claim(1, "w1")
    clock_of(db).advance(-3600)
    fresh = Leases(db, JOBS, SETTINGS)  # the next look of any worker, at most 30 s later
    assert [*ids(fresh.claim(10, "w2")), *ids(fresh.claim(10, "w2"))] == made
    with pytest.raises(StaleLease):
        finish(db, leases, held)


def test_replay_puts_a_dead_row_before_its_leased_successors(db: Database, leases: Leases) -> None:
    made = put(db, 1, 1, 1)
    fail(db, leases, leases.claim(1, "w1"), permanent=True)
    later = leases.claim(1, "w1")
    assert ids(later) == made[1:2]
    dead = DeadLetters(db, JOBS, SETTINGS)
    assert dead.replay(DeadFilter(ids=[made[0]]), dry_run=True) == made[:1]
    assert statuses(db)[0] == "dead"
    assert dead.replay(DeadFilter(reason_like="boom")) == made[:1]
    assert statuses(db) == ["pending", "pending", "pending"]
    with pytest.raises(StaleLease):
        finish(db, leases, later)
    claim = leases.claim(10, "w1")
    assert ids(claim) == made
    assert [row.attempt for row in claim.rows] == [1, 1, 1]
    assert dead.count() == 0


def test_discard_takes_a_letter_off_the_list(db: Database, leases: Leases) -> None:
    made = put(db, 1, 1)
    dead = DeadLetters(db, JOBS, SETTINGS)
    fail(db, leases, leases.claim(1, "w1"))
    leases.claim(5, "w1")  # parks the second row
    # The first is waiting, not dead: only its id may name it.
    assert dead.discard(DeadFilter(kind="extract"), "x") == []
    with pytest.raises(DataError):
        dead.discard(DeadFilter(ids=made[:1]), "  ")
    assert dead.discard(DeadFilter(ids=made[:1]), "a duplicate") == made[:1]
    assert dead.list() == []
    assert statuses(db) == ["dead", "pending"]
    assert "a duplicate" in rows(db)[0].last_error
    assert ids(leases.claim(5, "w1")) == made[1:]


def test_prune_keeps_what_is_young_open_or_dead(db: Database, leases: Leases) -> None:
    made = put(db, 1, 2, 3, 4)
    first = leases.claim(2, "w1")
    finish(db, leases, first)
    fail(db, leases, leases.claim(1, "w1"), permanent=True)
    dead = DeadLetters(db, JOBS, SETTINGS)
    week = dt.timedelta(days=7)
    clock_of(db).advance(7 * 86400)
    assert dead.prune(week) == 0  # exactly a week is not longer ago than a week
    clock_of(db).advance(1)
    finish(db, leases, leases.claim(1, "w1"))
    assert dead.prune(week) == 2
    assert [row.id for row in rows(db)] == made[2:]
    assert history(db, made[0]) == []
    assert history(db, made[2]) != []


def test_the_outbox_uses_the_same_mechanism(db: Database) -> None:
    leases = Leases(db, OUTBOX, OutboxSettings())
    made = put_events(db, ["a", "a", "b"])
    claim = leases.claim(1, "r1")
    assert ids(leases.claim(10, "r2")) == made[2:]
    finish(db, leases, claim)
    row = rows(db, outbox_messages)[0]
    assert (row.status, row.consumed_at, row.dead_at) == ("consumed", db.now(), None)
    assert ids(leases.claim(10, "r2")) == made[1:2]


def test_claims_can_be_narrowed_to_some_types(db: Database, leases: Leases) -> None:
    with db.begin() as conn:
        enqueue(conn, [job(1, job_type="embed"), job(2)])
    claim = leases.claim(10, "w1", kinds=["extract"])
    assert [row.row.job_type for row in claim.rows] == ["extract"]


def test_a_long_or_broken_error_text_is_stored_whole_characters(db: Database, leases: Leases) -> None:
    put(db, 1)
    claim = leases.claim(1, "w1")
    with db.begin() as conn:
        leases.fail(conn, claim.token, [Failure(claimed=claim.rows[0], error="\x00\ud800" + "👨‍👩‍👧" * 1000)])
    told = rows(db)[0].last_error
    assert 1990 < len(told) <= 2000
    assert told.endswith("👧")


def test_two_claimers_race_for_one_key(db: Database, leases: Leases) -> None:
    """Whoever locks the head owns the key: the other sees the head as foreign, whichever reads first."""
    if not db.skips_locked:
        with db.begin(), db.read() as conn:  # one writer: a second claim cannot run inside the first
            assert conn.execute(select(memory_jobs)).all() == []
        return
    made = put(db, 1, 1, 2)
    with db.begin() as conn:
        conn.execute(select(memory_jobs).where(memory_jobs.c.id == made[0]).with_for_update())
        assert ids(leases.claim(10, "w2")) == made[2:]
        conn.execute(update(memory_jobs).where(memory_jobs.c.id == made[0]).values(worker_id="x"))
    assert ids(leases.claim(10, "w2")) == made[:2]
