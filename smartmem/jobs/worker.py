"""Work jobs: claim a batch, prepare outside any transaction, apply and finish in one.

    worker = Worker(db, [handler, …], settings.jobs)
    worker.drain()                  # notebooks: until nothing is due
    worker.run(stop_event)          # services: until told to stop

What a worker holds when it is told to stop is finished; what it cannot finish is released, uncounted.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic_core import from_json
from sqlalchemy.engine import Connection

from smartmem.db.engine import Database
from smartmem.db.hot import moment
from smartmem.db.leases import JOBS, Claim, Claimed, Failure, Leases
from smartmem.errors import DataError, StaleLease, StoreUnavailable
from smartmem.jobs.heartbeat import Heartbeat
from smartmem.jobs.queue import dump
from smartmem.jobs.types import Job, JobHandler, Prepared
from smartmem.outbox.relay import as_exception, describe, name_worker
from smartmem.progress import bar
from smartmem.settings import JobSettings
from smartmem.telemetry import JOBS as JOBS_TOTAL
from smartmem.telemetry import LATENCY, metrics, traces
from smartmem.types import JobType

log = logging.getLogger(__name__)

RETRY_DATABASE_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkCounts:
    """What became of the jobs of one or several batches."""

    claimed: int = 0
    success: int = 0
    failed: int = 0
    dead: int = 0
    released: int = 0
    lost: int = 0

    def __add__(self, other: WorkCounts) -> WorkCounts:
        return WorkCounts(
            claimed=self.claimed + other.claimed,
            success=self.success + other.success,
            failed=self.failed + other.failed,
            dead=self.dead + other.dead,
            released=self.released + other.released,
            lost=self.lost + other.lost,
        )


@dataclass(slots=True)
class _Batch:
    """A claim while it is worked. `open`: jobs with no answer yet; `blocked`: keys that may not go on."""

    claim: Claim
    open: dict[int, Claimed]
    blocked: set[str]
    begun_ns: int = 0  # of the stage that is worked


class Worker:
    """One worker; it works one batch at a time. Several may run, in threads and processes, each its own `Worker`."""

    def __init__(
        self,
        db: Database,
        handlers: Sequence[JobHandler],
        settings: JobSettings,
        *,
        worker_id: str | None = None,
    ) -> None:
        self.db, self.settings = db, settings
        self.worker_id = worker_id or name_worker("worker")
        self._handlers = {handler.job_type: handler for handler in handlers}
        self._leases = Leases(db, JOBS, settings)
        # A worker for some types leaves the others alone; one for all needs no such condition in its claims.
        some = not {str(kind) for kind in JobType} <= set(self._handlers)
        self._kinds = sorted(self._handlers) if some else None
        self._heartbeat = Heartbeat(self._leases, settings.renew_s)
        self._left: list[tuple[str, list[int]]] = []  # leases of batches that an outage or an interrupt cut short

    # --- loops --------------------------------------------------------------------------------------------------

    def run_once(self) -> WorkCounts:
        """Claim one batch and work it. Raises `StoreUnavailable` when the database is away."""
        self._leases.give_back(self._left)
        claim = self._leases.claim(self.settings.batch, self.worker_id, kinds=self._kinds)
        if not claim.rows:
            return _reported(WorkCounts(dead=claim.died))
        batch = _Batch(claim=claim, open={row.id: row for row in claim.rows}, blocked=set())
        self._left.append((claim.token, list(batch.open)))
        counts = WorkCounts(claimed=len(claim.rows), dead=claim.died)
        try:
            with self._heartbeat.over(claim.token, list(batch.open)):
                for stage in self._stages(claim.rows):
                    counts += self._stage(batch, stage)
        except StoreUnavailable:
            raise  # the next run_once gives the leases back
        except BaseException:  # Ctrl-C, or a bug: nobody need wait for the leases to end
            with contextlib.suppress(StoreUnavailable):
                self._leases.give_back(self._left)
            raise
        if not batch.open:
            self._left.clear()
        counts += WorkCounts(released=self._leases.give_back(self._left))
        return _reported(counts)

    def run(self, stop: threading.Event) -> WorkCounts:
        """Work until `stop` is set; waits for the doorbell, at most `poll_s`. Outlives database restarts."""
        total = WorkCounts()
        with self.db.bell.listen() as bell:
            while not stop.is_set():
                try:
                    counts = self.run_once()
                    total += counts
                    if not counts.claimed:
                        self._leases.wait(bell, self.settings.poll_s, stop)
                except StoreUnavailable as error:
                    log.warning("worker %s waits for the database: %s", self.worker_id, error)
                    stop.wait(RETRY_DATABASE_S)
        with contextlib.suppress(StoreUnavailable):
            self._leases.give_back(self._left)
        self.close()
        return total

    def drain(self, *, limit: int | None = None, label: str = "jobs") -> WorkCounts:
        """Work all jobs that are due now, at most about `limit`; those in back-off stay. Shows a progress bar."""
        total = WorkCounts()
        with bar(label, unit="job") as shown:
            while limit is None or total.claimed < limit:
                counts = self.run_once()
                if not counts.claimed and not counts.dead:
                    break
                total += counts
                shown.update(counts.success + counts.dead)
        return total

    def close(self) -> None:
        """Stop the heartbeat's thread."""
        self._heartbeat.close()

    # --- one batch ----------------------------------------------------------------------------------------------

    def _stages(self, rows: Sequence[Claimed]) -> list[list[Claimed]]:
        """Stages of one type each, to be worked one after the other.

        A key's jobs go on in a later stage when their type changes, or for each single job when the handler is
        `sequential`: so every job finds its predecessors' effects.
        """
        stages: dict[tuple[int, str], list[Claimed]] = defaultdict(list)
        last: dict[str, tuple[int, str]] = {}
        for claimed in rows:
            kind = claimed.row.job_type
            handler = self._handlers.get(kind)
            before = last.get(claimed.key)
            depth = 0
            if before is not None:
                alone = before[1] != kind or (handler is not None and handler.sequential)
                depth = before[0] + alone
            last[claimed.key] = (depth, kind)
            stages[depth, kind].append(claimed)
        return [stages[place] for place in sorted(stages)]

    def _stage(self, batch: _Batch, rows: Sequence[Claimed]) -> WorkCounts:
        lost = self._heartbeat.lost
        counts = self._drop(batch, [row for row in rows if row.id in lost])
        rows = [row for row in rows if row.key not in batch.blocked]
        if not rows:
            return counts
        handler = self._handlers.get(rows[0].row.job_type)
        if handler is None:
            reason = f"no handler for job type {rows[0].row.job_type!r} in this worker; known are {[*self._handlers]}"
            return counts + self._fail(batch, [Failure(claimed=row, error=reason, permanent=True) for row in rows])
        batch.begun_ns = time.time_ns()
        prepared, failures = self._prepare(handler, rows)
        # A failed job keeps the later ones of its key from being applied; they are released with the batch.
        failed_from = {failure.claimed.key: failure.claimed.id for failure in reversed(failures)}
        ready = [(row, done) for row, done in prepared if row.id < failed_from.get(row.key, row.id + 1)]
        counts += self._apply(batch, handler, ready)
        first = {failure.claimed.id for failure in failures if failed_from[failure.claimed.key] == failure.claimed.id}
        return counts + self._fail(
            batch,
            [f for f in failures if f.claimed.id in first and f.claimed.key not in batch.blocked],
        )

    def _prepare(
        self, handler: JobHandler, rows: Sequence[Claimed]
    ) -> tuple[list[tuple[Claimed, Prepared]], list[Failure]]:
        jobs, failures = [], []
        for row in rows:
            try:
                jobs.append((row, _job(row)))
            except ValueError as error:
                failures.append(Failure(claimed=row, error=f"payload is not JSON: {error}", permanent=True))
        answers = self._answers(handler, [job for _, job in jobs])
        prepared = []
        for (row, _), answer in zip(jobs, answers, strict=True):
            if isinstance(answer, Prepared):
                prepared.append((row, answer))
            else:
                failures.append(_failure(row, answer))
        return prepared, sorted(failures, key=lambda failure: failure.claimed.id)

    def _answers(self, handler: JobHandler, jobs: Sequence[Job]) -> Sequence[Prepared | Exception]:
        if not jobs:
            return []
        try:
            answers = handler.prepare(jobs)
            if len(answers) != len(jobs):
                raise DataError(f"{type(handler).__name__}.prepare answered {len(answers)} of {len(jobs)} jobs")
            return answers
        except StoreUnavailable as error:
            return [error] * len(jobs)  # a vector store that is down is so for each of them
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - see `as_exception`; it is recorded on the job
            if len(jobs) == 1:
                return [as_exception(error)]
            log.info("worker %s: preparing %d jobs failed (%s); one by one", self.worker_id, len(jobs), error)
        return [answer for job in jobs for answer in self._answers(handler, [job])]

    def _apply(self, batch: _Batch, handler: JobHandler, ready: Sequence[tuple[Claimed, Prepared]]) -> WorkCounts:
        if not ready:
            return WorkCounts()
        try:
            self._commit(batch, handler, ready)
            return WorkCounts(success=len(ready))
        except (StoreUnavailable, KeyboardInterrupt):
            raise
        except BaseException as error:  # noqa: BLE001 - each job then answers for itself
            if len(ready) > 1:
                log.info("worker %s: applying %d jobs failed (%s); one by one", self.worker_id, len(ready), error)
        counts = WorkCounts()
        for row, done in ready:
            if row.key not in batch.blocked:
                counts += self._apply_one(batch, handler, row, done)
        return counts

    def _apply_one(self, batch: _Batch, handler: JobHandler, row: Claimed, done: Prepared) -> WorkCounts:
        try:
            self._commit(batch, handler, [(row, done)])
            return WorkCounts(success=1)
        except StaleLease as lost:
            log.warning("worker %s: %s", self.worker_id, lost)
            return self._drop(batch, [row])
        except (StoreUnavailable, KeyboardInterrupt):
            raise
        except BaseException as error:
            log.info("worker %s: job %d failed", self.worker_id, row.id, exc_info=True)
            return self._fail(batch, [_failure(row, error)])

    def _commit(self, batch: _Batch, handler: JobHandler, ready: Sequence[tuple[Claimed, Prepared]]) -> None:
        """Effects and `success` in one transaction; run again by `Database.run` after a deadlock."""

        def work(conn: Connection) -> None:
            recorded = handler.apply(conn, [done for _, done in ready])
            groups: dict[tuple[str | None, str | None], list[int]] = defaultdict(list)
            for done in recorded:
                groups[done.outcome, dump(done.result) if done.result else None].append(done.job.id)
            told = {id_ for ids in groups.values() for id_ in ids}
            groups.setdefault((None, None), []).extend(row.id for row, _ in ready if row.id not in told)
            for (outcome, result), ids in groups.items():
                self._leases.finish(conn, batch.claim.token, ids, {"outcome": outcome, "result": result})

        self.db.run(work)
        now = self.db.now()
        for row, _ in ready:
            batch.open.pop(row.id)
            _trace(batch, row)
        extracted = [done.job.created_at for _, done in ready if done.job.job_type == JobType.EXTRACT]
        metrics.observe(LATENCY, *(max(0.0, (now - created).total_seconds()) for created in extracted))

    def _fail(self, batch: _Batch, failures: Sequence[Failure]) -> WorkCounts:
        if not failures:
            return WorkCounts()
        rows = [failure.claimed for failure in failures]
        try:
            self.db.run(lambda conn: self._leases.fail(conn, batch.claim.token, failures))
        except StaleLease as lost:
            if len(failures) == 1:
                log.warning("worker %s: %s", self.worker_id, lost)
                return self._drop(batch, rows)
            counts = WorkCounts()
            for failure in failures:
                counts += self._fail(batch, [failure])
            return counts
        for failure in failures:
            row = failure.claimed
            _trace(batch, row, failure.error)
            batch.open.pop(row.id)
            # Also when it died: its successors were prepared as if it had not. They start afresh at once.
            batch.blocked.add(row.key)
        dead = sum(failure.dead for failure in failures)
        return WorkCounts(failed=len(failures) - dead, dead=dead)

    def _drop(self, batch: _Batch, rows: Sequence[Claimed]) -> WorkCounts:
        """Another worker has them now, or they are final: nothing of ours was kept."""
        for row in rows:
            batch.open.pop(row.id)
            batch.blocked.add(row.key)
        return WorkCounts(lost=len(rows))


def _trace(batch: _Batch, claimed: Claimed, error: str = "") -> None:
    if not traces.enabled:
        return
    row, told = claimed.row, {"job_id": claimed.id, "attempt": claimed.attempt}
    traces.record(f"job {row.job_type}", row.trace_id, batch.begun_ns or time.time_ns(), error=error, **told)


def _reported(counts: WorkCounts) -> WorkCounts:
    for state in ("claimed", "success", "failed", "dead", "released", "lost"):
        metrics.count(JOBS_TOTAL, getattr(counts, state), to=state)
    return counts


def _job(claimed: Claimed) -> Job:
    row = claimed.row
    return Job(
        id=row.id,
        user_id=row.user_id,
        conversation_id=row.conversation_id,
        source_message_id=row.source_message_id,
        source_event_id=row.source_event_id,
        job_type=row.job_type,
        idempotency_key=row.idempotency_key,
        payload=from_json(row.payload),
        trace_id=row.trace_id,
        attempt=claimed.attempt,
        max_retry=claimed.max_retry,
        created_at=moment(row.created_at),
    )


def _failure(claimed: Claimed, error: BaseException) -> Failure:
    return Failure(claimed=claimed, error=describe(error), permanent=isinstance(error, DataError))
