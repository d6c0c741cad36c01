"""Relays and workers of a workbench: until nothing is left, or until told to stop; here, or in several processes."""

from __future__ import annotations

import multiprocessing
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from smartmem.chat import history
from smartmem.db.dead_letters import DeadFilter
from smartmem.db.lease_table import JOBS, OUTBOX, next_try
from smartmem.errors import StoreUnavailable
from smartmem.jobs import enqueue
from smartmem.jobs.types import JobHandler
from smartmem.jobs.worker import WorkCounts, Worker
from smartmem.memory.candidates import VectorCandidates
from smartmem.memory.compare import create_comparator
from smartmem.memory.corrections import corrections
from smartmem.memory.decide import Planner
from smartmem.memory.extract.base import create_extractor
from smartmem.memory.handler import ExtractHandler
from smartmem.memory.reconcile import ReconcileHandler
from smartmem.memory.sync import EmbedHandler, ask_again
from smartmem.outbox.events import EventRegistry
from smartmem.outbox.relay import Relay, RelayCounts
from smartmem.progress import bar
from smartmem.settings import Settings
from smartmem.telemetry import log, metrics, serve_metrics
from smartmem.types import JobType, VectorStatus
from smartmem.workbench.reports import DrainReport

if TYPE_CHECKING:
    from smartmem.workbench import Workbench

GRACE_S = 30.0


class Runner:
    """Makes relays and workers from the settings and runs them."""

    def __init__(self, bench: Workbench) -> None:
        self._bench = bench

    # --- making -------------------------------------------------------------------------------------------------

    def relay(self) -> Relay:
        """A relay with the handlers of every event that this package knows."""
        bench = self._bench
        registry = EventRegistry()
        history.register(registry)
        enqueue.register(registry, bench.settings.extract, bench.settings.jobs)
        return Relay(bench.db, registry, bench.settings.outbox)

    def handlers(self) -> Sequence[JobHandler]:
        """One handler for each job type."""
        bench = self._bench
        write = bench.settings.memory.write
        planner = None
        if write.mode != "legacy":
            planner = Planner(
                comparator=create_comparator(write.comparator),
                candidates=VectorCandidates(bench.db, bench.store, bench.embedder, write.candidates),
                limit=write.candidates,
                fallback=write.fallback,
            )
        extractor = create_extractor(bench.settings.extract.extractor)
        return [
            ExtractHandler(bench.db, extractor, planner, extract=bench.settings.extract, write=write),
            EmbedHandler(bench.db, bench.store, bench.embedder),
            ReconcileHandler(bench.db, bench.store, bench.embedder),
        ]

    def worker(self) -> Worker:
        """A worker for every job type."""
        return Worker(self._bench.db, self.handlers(), self._bench.settings.jobs)

    # --- running ------------------------------------------------------------------------------------------------

    def drain(self, *, workers: int | None = None, wait: bool = True) -> DrainReport:
        """Until no event and no job is unfinished. Extra workers are processes of their own, which end with it."""
        count = workers or self._bench.settings.jobs.workers
        with self._helpers(count - 1):
            return self._drain(wait)

    def _drain(self, wait: bool) -> DrainReport:
        bench = self._bench
        started = time.perf_counter()
        relay, worker = self.relay(), self.worker()
        bench.db.run(ask_again)
        events, jobs = RelayCounts(), WorkCounts()
        told = ""
        try:
            with bar("draining", unit="job") as shown, bench.db.bell.listen() as bell:
                while True:
                    relayed = relay.run_once()
                    worked = worker.run_once()
                    events, jobs = events + relayed, jobs + worked
                    shown.update(worked.success + worked.dead)
                    if relayed.claimed or relayed.dead or worked.claimed or worked.dead:
                        continue
                    left = bench.outbox.depth(finished=False).unfinished + bench.jobs.depth(finished=False).unfinished
                    if not left or not wait:
                        break
                    told = self._tell(shown, left, told)
                    bell.wait(bench.settings.jobs.poll_s, threading.Event())
        finally:
            worker.close()
        return DrainReport(
            events=events.consumed,
            success=jobs.success,
            failed=events.failed + jobs.failed,
            dead=events.dead + jobs.dead,
            away=self._away() if jobs.dead else "",
            seconds=time.perf_counter() - started,
        )

    def _tell(self, shown: Any, left: int, told: str) -> str:
        """Say for what a drain waits: on the bar, and once for each error in the log, which notebooks and services
        show when they have no bar. Returns the error that was told last."""
        db = self._bench.db
        waiting = next_try(db, JOBS) or next_try(db, OUTBOX)
        if waiting is None:
            shown.set_postfix_str(f"{left} are in another worker's hands")
            return told
        seconds = max(0.0, (waiting.due_at - db.now()).total_seconds())
        shown.set_postfix_str(f"{left} left; next try in {seconds:.0f} s after: {waiting.error[:80]}")
        if waiting.error != told:
            log.warning(
                "draining: %d left; %s failed %d of %d times and is tried again in %.0f s: %s",
                left, waiting.kind, waiting.failures, waiting.max_retry, seconds, waiting.error,
            )  # fmt: skip
        return waiting.error

    def _away(self) -> str:
        """Why memories are without vectors although nothing is left to do, or ''."""
        if not self._bench.status().vectors.get(VectorStatus.FAILED.value):
            return ""
        dead = self._bench.jobs.dead.list(DeadFilter(kind=JobType.EMBED.value), limit=1)
        return str(dead[0].last_error) if dead else "the vector store was away"

    def run(self, stop: threading.Event, *, workers: int | None = None, metrics_port: int | None = None) -> DrainReport:
        """Until `stop` is set: one relay thread and one worker here, further workers as processes."""
        started = time.perf_counter()
        count = workers or self._bench.settings.jobs.workers
        relay, worker = self.relay(), self.worker()
        self._bench.db.run(ask_again)
        with (
            self._metrics(metrics_port),
            self._helpers(count - 1, metrics_port),
            ThreadPoolExecutor(1, thread_name_prefix="relay") as pool,
        ):
            relayed = pool.submit(relay.run, stop, poll_s=self._bench.settings.jobs.poll_s)
            # A relay that ends by an error must not leave a worker behind that waits for ever for what it relays.
            relayed.add_done_callback(lambda _: stop.set())
            try:
                jobs = worker.run(stop)
            finally:
                stop.set()
        events = relayed.result()
        return DrainReport(
            events=events.consumed,
            success=jobs.success,
            failed=events.failed + jobs.failed,
            dead=events.dead + jobs.dead,
            seconds=time.perf_counter() - started,
        )

    @contextmanager
    def _metrics(self, port: int | None) -> Iterator[None]:
        """Serve the figures of this process, and the queue's, which are the database's and so not each worker's."""
        if port is None:
            yield
            return
        for name, read in database_gauges(self._bench).items():
            metrics.gauge(name, read)
        stop = serve_metrics(port)
        try:
            yield
        finally:
            stop()

    @contextmanager
    def _helpers(self, count: int, metrics_port: int | None = None) -> Iterator[None]:
        """`count` worker processes. Spawned, not forked: threads and database connections do not survive a fork."""
        context = multiprocessing.get_context("spawn")
        made = [
            context.Process(
                target=work_until_told,
                args=(self._bench.settings, metrics_port and metrics_port + n + 1),
                name=f"worker-{n + 2}",
            )
            for n in range(count)
        ]
        for process in made:
            process.start()
        try:
            yield
        finally:
            for process in made:
                process.terminate()  # SIGTERM: it finishes or releases what it holds
            for process in made:
                process.join(GRACE_S)
                if process.is_alive():
                    process.kill()  # its leases run out; nothing is lost


@contextmanager
def until_told() -> Iterator[threading.Event]:
    """An event that SIGTERM and Ctrl-C set, so that what is held is finished or released. Main thread only."""
    stop = threading.Event()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def database_gauges(bench: Workbench) -> dict[str, Callable[[], float | None]]:
    """What Prometheus is told of the database: the queue, and what users correct; nothing while it is away."""

    def shown(read: Callable[[], float | None]) -> Callable[[], float | None]:
        def safely() -> float | None:
            try:
                return read()
            except StoreUnavailable:
                return None

        return safely

    return {
        "memory_queue_depth": shown(lambda: bench.jobs.depth(finished=False).unfinished),
        "memory_oldest_job_age_seconds": shown(lambda: bench.jobs.depth(finished=False).oldest_age_s),
        "memory_dead_jobs": shown(bench.jobs.dead.count),
        "memory_outbox_depth": shown(lambda: bench.outbox.depth(finished=False).unfinished),
        "memory_dead_events": shown(bench.outbox.dead.count),
        "memory_user_correction_rate": shown(lambda: corrections(bench.db).correction_rate),
        "memory_wrong_mention_rate": shown(lambda: corrections(bench.db).wrong_mention_rate),
    }


def work_until_told(settings: Settings, metrics_port: int | None = None) -> None:
    """Body of a worker process: works until SIGTERM. Ctrl-C reaches the parent too, which then sends SIGTERM."""
    from smartmem.workbench import Workbench

    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if metrics_port is not None:
        serve_metrics(metrics_port)
    with Workbench.open(settings=settings) as bench:
        worker = bench.runner.worker()
        while not stop.is_set():
            try:
                worker.run(stop)
            except StoreUnavailable:
                stop.wait(1.0)
