"""Any order of claims, heartbeats, expiries, successes, failures, releases and replays keeps the promises.

Two workers, several users, a clock moved by hand, against SQLite; the model beside it is a dictionary.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule
from sqlalchemy import insert
from sqlalchemy.exc import IntegrityError

from smartmem.clock import ManualClock
from smartmem.db.dead_letters import DeadFilter, DeadLetters
from smartmem.db.engine import Database
from smartmem.db.leases import JOBS, Claim, Failure, Leases
from smartmem.db.tables import memory_decisions
from smartmem.errors import StaleLease
from smartmem.jobs.queue import enqueue
from smartmem.settings import JobSettings
from tests.support.pipeline import START, job, rows

LEASE_S = 10
MAX_RETRY = 3


class LeaseMachine(RuleBasedStateMachine):
    """`holder` is what the model believes: which token may finish a job."""

    claims = Bundle("claims")

    @initialize()
    def open(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.clock = ManualClock(START)
        self.db = Database.open(f"sqlite:///{self.folder}/m.db", clock=self.clock)
        self.db.migrate()
        options = JobSettings(lease_s=LEASE_S, backoff_s=(2, 8), max_retry=MAX_RETRY)
        self.workers = [Leases(self.db, JOBS, options) for _ in range(2)]
        self.dead = DeadLetters(self.db, JOBS, options)
        self.holder: dict[int, tuple[str, float]] = {}  # job → token, end of the lease
        self.final: dict[int, str] = {}
        self.made: dict[int, int] = {}  # job → user
        self.effects: list[int] = []
        self.time = 0.0

    def teardown(self) -> None:
        if hasattr(self, "db"):
            self.db.close()
            shutil.rmtree(self.folder)

    @rule(users=st.lists(st.integers(1, 3), min_size=1, max_size=4))
    def enqueue(self, users: list[int]) -> None:
        with self.db.begin() as conn:
            assert enqueue(conn, [job(user) for user in users], max_retry=MAX_RETRY) == len(users)
        new = [row for row in rows(self.db) if row.id not in self.made]
        self.made |= {row.id: row.user_id for row in new}

    @rule(target=claims, worker=st.integers(0, 1), batch=st.integers(1, 5))
    def claim(self, worker: int, batch: int) -> Claim | object:
        claim = self.workers[worker].claim(batch, f"w{worker}")
        assert len(claim.rows) <= batch
        for row in claim.rows:
            token, end = self.holder.get(row.id, ("", -1.0))
            assert self.time >= end, f"job {row.id} is in two hands: {token} still has it"
            assert row.id not in self.final
            assert 1 <= row.attempt <= MAX_RETRY
        mine = {row.id for row in claim.rows}
        gone = {row.id for row in rows(self.db) if row.status == "dead"}
        for row in claim.rows:  # order: every earlier open job of the user is in the same batch
            earlier = {id_ for id_, user in self.made.items() if user == self.made[row.id] and id_ < row.id}
            assert earlier - set(self.final) - gone <= mine
        for row in claim.rows:
            self.holder[row.id] = (claim.token, self.time + LEASE_S)
        self._note_deaths()
        return claim if claim.rows else multiple()

    @rule(claim=claims)
    def heartbeat(self, claim: Claim) -> None:
        ids = [row.id for row in claim.rows]
        lost = self.workers[0].renew(claim.token, ids)
        ours = {id_ for id_ in ids if self._holds(claim, id_) and self.holder[id_][1] > self.time}
        assert set(ids) - lost == ours
        for id_ in ours:
            self.holder[id_] = (claim.token, self.time + LEASE_S)

    @rule(claim=consumes(claims), count=st.integers(1, 5))
    def succeed(self, claim: Claim, count: int) -> None:
        """As the worker does: effects and the finish in one transaction; what remains is released."""
        ids = [row.id for row in claim.rows][:count]
        ours = all(self._holds(claim, id_) for id_ in ids)
        try:
            with self.db.begin() as conn:
                conn.execute(insert(memory_decisions), [_effect(id_) for id_ in ids])
                self.workers[0].finish(conn, claim.token, ids)
            assert ours, "a stale token finished jobs"
            for id_ in ids:
                self.final[id_] = "success"
                self.effects.append(id_)
                self.holder.pop(id_)
        except (StaleLease, IntegrityError):
            # The unique key may refuse before the fence is asked: whoever had the job next has written its effects. The
            # worker then reports a failure, which the fence refuses.
            assert not ours, "a valid token was refused"
        self._release(claim)

    @rule(claim=consumes(claims), permanent=st.booleans())
    def fail(self, claim: Claim, permanent: bool) -> None:
        first = claim.rows[0]
        ours = self._holds(claim, first.id)
        try:
            with self.db.begin() as conn:
                failure = Failure(claimed=first, error="no", permanent=permanent)
                due = self.workers[0].fail(conn, claim.token, [failure])
            assert ours
            assert (due[first.id] is None) == (permanent or first.attempt >= MAX_RETRY)
            self.holder.pop(first.id)
        except StaleLease:
            assert not ours
        self._note_deaths()
        self._release(claim)

    @rule(claim=consumes(claims))
    def release(self, claim: Claim) -> None:
        self._release(claim)

    @rule(claim=consumes(claims))
    def crash(self, claim: Claim) -> None:
        """Nobody ever hears of this claim again."""

    @rule(seconds=st.sampled_from([0.5, 1, 2, 8, LEASE_S, 2 * LEASE_S]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.time += seconds

    @rule()
    def replay(self) -> None:
        back = self.dead.replay(DeadFilter())
        users = {self.made[id_] for id_ in back}
        for id_ in back:
            assert self.final.pop(id_) == "dead"
        for id_ in list(self.holder):  # leases of those users were taken back
            if self.made[id_] in users:
                self.holder.pop(id_)

    @invariant()
    def nothing_lost_nothing_twice(self) -> None:
        if not hasattr(self, "db"):
            return
        found = rows(self.db)
        assert {row.id for row in found} == set(self.made)
        done = {row.id for row in found if row.status == "success"}
        assert sorted(self.effects) == sorted(done)
        for row in found:
            assert (row.status in ("success", "dead")) == (row.due_at is None) == (row.order_key is None)
            assert (row.status == "dead") == (row.dead_at is not None)
        # Never two at a time: one live token a user.
        live = {
            (row.user_id, row.lease_token) for row in found if row.status == "processing" and row.due_at > self.db.now()
        }
        assert len(live) == len({user for user, _ in live})

    def _holds(self, claim: Claim, id_: int) -> bool:
        return self.holder.get(id_, ("", 0.0))[0] == claim.token

    def _release(self, claim: Claim) -> None:
        with self.db.begin() as conn:
            self.workers[0].release(conn, claim.token, [row.id for row in claim.rows])
        for row in claim.rows:
            if self._holds(claim, row.id):
                self.holder.pop(row.id)

    def _note_deaths(self) -> None:
        for row in rows(self.db):
            if row.status == "dead":
                self.final[row.id] = "dead"
                self.holder.pop(row.id, None)


def _effect(job_id: int) -> dict[str, object]:
    """A row with a unique key on the job: a second effect would be an error."""
    return {
        "job_id": job_id,
        "fact_index": 0,
        "user_id": 1,
        "mode": "test",
        "operation": "ADD",
        "written": "ADD",
        "fact": "{}",
        "trace_id": "t",
        "created_at": START,
    }


LeaseMachine.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestLeaseMachine = LeaseMachine.TestCase


def test_a_worker_that_comes_back_finds_the_effects_of_the_next() -> None:
    state = LeaseMachine()
    state.open()
    try:
        state.enqueue(users=[2])
        late = state.claim(batch=1, worker=0)
        state.wait(seconds=LEASE_S)
        state.succeed(claim=state.claim(batch=1, worker=1), count=1)
        state.succeed(claim=late, count=1)
        state.nothing_lost_nothing_twice()
    finally:
        state.teardown()
