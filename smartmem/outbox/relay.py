"""Carry events from the outbox to their handlers: effects and `consumed` in one transaction."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pydantic import ValidationError
from sqlalchemy.engine import Connection

from smartmem.db.engine import Database
from smartmem.db.hot import moment
from smartmem.db.leases import OUTBOX, Claimed, Failure, Leases
from smartmem.errors import BadRecord, StaleLease, StoreUnavailable
from smartmem.outbox.events import Event, EventHandler, EventRegistry
from smartmem.settings import OutboxSettings
from smartmem.telemetry import EVENTS, metrics, traces

log = logging.getLogger(__name__)

RETRY_DATABASE_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayCounts:
    """What became of the events of one or several batches."""

    claimed: int = 0
    consumed: int = 0
    failed: int = 0
    dead: int = 0
    lost: int = 0

    def __add__(self, other: RelayCounts) -> RelayCounts:
        return RelayCounts(
            claimed=self.claimed + other.claimed,
            consumed=self.consumed + other.consumed,
            failed=self.failed + other.failed,
            dead=self.dead + other.dead,
            lost=self.lost + other.lost,
        )


class _Work(NamedTuple):
    claimed: Claimed
    event: Event
    handler: EventHandler


class Relay:
    """One worker of the outbox. Several may run, in threads and processes; each has its own `Relay`.

    A claim of its own, committed before the work, counts the attempt of an event that kills the process. Most events
    do not, so a relay claims its first batch like that, and whatever was tried before; then it chooses, handles and
    finishes a batch of untried events in one transaction, which costs less. An event that kills it there is not
    counted once, but heads the first batch of the relay that is started next. Whatever goes wrong sends it back to
    claims.
    """

    def __init__(
        self, db: Database, registry: EventRegistry, settings: OutboxSettings, *, worker_id: str | None = None
    ) -> None:
        self.db, self.registry, self.settings = db, registry, settings
        self.worker_id = worker_id or name_worker("relay")
        self._leases = Leases(db, OUTBOX, settings)
        self._left: list[tuple[str, list[int]]] = []  # leases of batches that an outage or an interrupt cut short
        self._proven = False  # whether the last batch went through without a failure

    def run_once(self) -> RelayCounts:
        """Take one batch of events and handle it. Raises `StoreUnavailable` when the database is away."""
        self._leases.give_back(self._left)
        counts = self._at_once() if self._proven else None
        if counts is None:
            counts = self._by_claim()
            self._proven = 0 < counts.claimed == counts.consumed
        for state in ("claimed", "consumed", "failed", "dead", "lost"):
            metrics.count(EVENTS, getattr(counts, state), to=state)
        return counts

    def _at_once(self) -> RelayCounts | None:
        """Handle a batch of untried events in one transaction. None when it takes claims: then nothing was done."""
        begun = time.time_ns()
        self._leases.sweep()

        def work(conn: Connection) -> list[_Work] | None:
            rows = self._leases.untried(conn, self.settings.batch)
            unusable, stages = self._sort(rows or [])
            if rows is None or unusable:
                return None
            for stage in stages:
                self._consume(conn, None, stage)
            return [work for stage in stages for work in stage]

        try:
            works = self.db.run(work)
        except (StoreUnavailable, KeyboardInterrupt):
            self._proven = False
            raise
        except BaseException as error:  # noqa: BLE001 - it is met again by the claim, and counted there
            log.info("relay %s: a batch failed (%s); again by claim", self.worker_id, error)
            return None
        if works is None:
            return None
        for one in works:
            _trace(one, begun)
        return RelayCounts(claimed=len(works), consumed=len(works))

    def _by_claim(self) -> RelayCounts:
        claim = self._leases.claim(self.settings.batch, self.worker_id)
        counts = RelayCounts(claimed=len(claim.rows), dead=claim.died)
        if not claim.rows:
            return counts
        self._left.append((claim.token, [row.id for row in claim.rows]))
        blocked: set[str] = set()
        try:
            unusable, stages = self._sort(claim.rows)
            # The unusable ones go first, so that later events of their keys may pass.
            counts += self._bury(claim.token, unusable)
            for stage in stages:
                counts += self._stage(claim.token, stage, blocked)
        except StoreUnavailable:
            raise  # the next run_once gives the leases back
        except BaseException:  # Ctrl-C, or a bug: nobody need wait for the leases to end
            with contextlib.suppress(StoreUnavailable):
                self._leases.give_back(self._left)
            raise
        if not blocked:
            self._left.clear()
        self._leases.give_back(self._left)
        return counts

    def run(self, stop: threading.Event, *, poll_s: float = 1.0) -> RelayCounts:
        """Handle events until `stop` is set; waits for the doorbell, at most `poll_s`. Outlives database restarts."""
        total = RelayCounts()
        with self.db.bell.listen() as bell:
            while not stop.is_set():
                try:
                    counts = self.run_once()
                    total += counts
                    if not counts.claimed:
                        self._leases.wait(bell, poll_s, stop)
                except StoreUnavailable as error:
                    log.warning("relay %s waits for the database: %s", self.worker_id, error)
                    stop.wait(RETRY_DATABASE_S)
        with contextlib.suppress(StoreUnavailable):
            self._leases.give_back(self._left)
        return total

    def drain(self) -> RelayCounts:
        """Handle all events that are due now; those in back-off stay."""
        total = RelayCounts()
        while (counts := self.run_once()).claimed or counts.dead:
            total += counts
        return total

    # --- one batch ----------------------------------------------------------------------------------------------

    def _sort(self, rows: Sequence[Claimed]) -> tuple[list[Failure], list[list[_Work]]]:
        """Split into events that nobody can handle, and stages to be handled one after the other.

        A stage holds events of one type; a key whose events change type goes on in a later stage, so that a batch
        is a few set-based calls and yet keeps the order of each key.
        """
        unusable: list[Failure] = []
        stages: dict[tuple[int, str, int], list[_Work]] = {}
        last: dict[str, tuple[int, str, int]] = {}
        for claimed in rows:
            work = self._parse(claimed)
            if isinstance(work, Failure):
                unusable.append(work)
                continue
            kind = (claimed.row.event_type, claimed.row.event_version)
            before = last.get(claimed.key)
            depth = 0 if before is None else before[0] + (before[1:] != kind)
            last[claimed.key] = (depth, *kind)
            stages.setdefault((depth, *kind), []).append(work)
        return unusable, [stages[place] for place in sorted(stages)]

    def _parse(self, claimed: Claimed) -> _Work | Failure:
        row = claimed.row
        known = self.registry.find(row.event_type, row.event_version)
        if known is None:
            reason = f"no handler for event {row.event_type} version {row.event_version}"
            return Failure(claimed=claimed, error=reason, permanent=True)
        model, handler = known
        try:
            payload = model.model_validate_json(row.payload)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(str(part) for part in first["loc"]) or "payload"
            return Failure(claimed=claimed, error=f"invalid payload: {place}: {first['msg']}", permanent=True)
        event = Event(
            id=row.id,
            event_id=row.event_id,
            payload=payload,
            attempt=claimed.attempt,
            created_at=moment(row.created_at),
        )
        return _Work(claimed=claimed, event=event, handler=handler)

    def _bury(self, token: str, failures: Sequence[Failure]) -> RelayCounts:
        if not failures:
            return RelayCounts()
        try:
            self.db.run(lambda conn: self._leases.fail(conn, token, failures))
        except StaleLease as lost:
            log.warning("relay %s: %s", self.worker_id, lost)
            return RelayCounts(lost=len(failures))
        return RelayCounts(dead=len(failures))

    def _stage(self, token: str, works: Sequence[_Work], blocked: set[str]) -> RelayCounts:
        works = [work for work in works if work.claimed.key not in blocked]
        if not works:
            return RelayCounts()
        begun = time.time_ns()
        try:
            self.db.run(lambda conn: self._consume(conn, token, works))
            for work in works:
                _trace(work, begun)
            return RelayCounts(consumed=len(works))
        except (StoreUnavailable, KeyboardInterrupt):
            raise
        except BaseException as error:  # noqa: BLE001 - a handler may raise anything; each event answers for itself
            log.info("relay %s: a batch of %d failed (%s); one by one", self.worker_id, len(works), error)
        counts = RelayCounts()
        for work in works:
            if work.claimed.key not in blocked:
                counts += self._single(token, work, blocked)
        return counts

    def _single(self, token: str, work: _Work, blocked: set[str]) -> RelayCounts:
        begun = time.time_ns()
        try:
            self.db.run(lambda conn: self._consume(conn, token, [work]))
            _trace(work, begun)
            return RelayCounts(consumed=1)
        except StaleLease as lost:
            log.warning("relay %s: %s", self.worker_id, lost)
            blocked.add(work.claimed.key)  # whoever has it now decides when the next of its key may go
            return RelayCounts(lost=1)
        except (StoreUnavailable, KeyboardInterrupt):
            raise
        except BaseException as error:
            log.info("relay %s: event %s failed", self.worker_id, work.event.event_id, exc_info=True)
            failure = Failure(claimed=work.claimed, error=describe(error), permanent=isinstance(error, BadRecord))
            _trace(work, begun, failure.error)
        try:
            self.db.run(lambda conn: self._leases.fail(conn, token, [failure]))
        except StaleLease:
            blocked.add(work.claimed.key)
            return RelayCounts(lost=1)
        if failure.dead:
            return RelayCounts(dead=1)
        blocked.add(work.claimed.key)
        return RelayCounts(failed=1)

    def _consume(self, conn: Connection, token: str | None, works: Sequence[_Work]) -> None:
        works[0].handler(conn, [work.event for work in works])
        self._leases.finish(conn, token, [work.claimed.id for work in works], {"worker_id": self.worker_id})


def _trace(work: _Work, begun_ns: int, error: str = "") -> None:
    if not traces.enabled:
        return
    row, trace_id = work.claimed.row, work.event.payload.trace_id
    name, attempt = f"event {row.event_type}", work.claimed.attempt
    traces.record(name, trace_id, begun_ns, error=error, event_id=work.event.event_id, attempt=attempt)


def describe(error: BaseException) -> str:
    """An error as `last_error` shows it: its class and message."""
    return f"{type(error).__name__}: {error}"


def as_exception(error: BaseException) -> Exception:
    """`sys.exit` in a handler, a cancelled task, a panic of a Rust library: none of them is an `Exception`, and none
    may end the worker uncounted, or its job would end one worker after the other."""
    if isinstance(error, Exception):
        return error
    return RuntimeError(f"a handler raised {describe(error)}")


def name_worker(kind: str) -> str:
    """A name that no other worker has, and that tells an operator where to look."""
    return f"{kind}@{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:6]}"[-128:]
