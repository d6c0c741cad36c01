"""Group commit: what several threads want to write at this moment, as one batch in one transaction.

A commit waits for the disk, and SQLite's commits cannot overlap. So one of those who wait leads: it takes what all of
them want to write, hands it to the writing function as one batch (most of a small write's cost does not depend on its
size), commits once, and gives each its answer. Then the next one who waits leads.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from itertools import groupby
from typing import Any, TypeVar

from sqlalchemy.engine import Connection

from smartmem.errors import StoreUnavailable

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")

LARGEST = 64  # seats in one transaction: a bound for how long the first of them waits
PATIENCE = 0.25  # of the last transaction's time: how long its callers are waited for, who are likely to come again

Write = Callable[[Connection, Sequence[Item]], Sequence[Outcome]]


class Seat:
    """What one caller wants to write, and what became of it."""

    def __init__(self, write: Write[Any, Any], items: Sequence[Any]) -> None:
        self.write, self.items = write, items
        self.leads = self.settled = False
        # Held until the caller is woken: settled, or chosen to lead. A bare lock, for an Event makes two more for each
        # wait, which showed with eight callers.
        self.asleep: Any = threading.Lock()
        self.asleep.acquire()
        self.outcomes: Sequence[Any] = ()
        # Stands until the commit is done, so that an interrupted leader never leaves behind what looks like success.
        self.error: Exception | None = StoreUnavailable(
            "the thread that wrote for this one too was interrupted; whether it wrote is not known: ask, or write again"
        )


class Group:
    """Those who wait to write into one database.

    `turn(seconds)` waits for the writer's turn, and raises when it does not come within that time; `transaction()` is
    for whoever has it.
    """

    def __init__(
        self,
        turn: Callable[[float], AbstractContextManager[None]],
        transaction: Callable[[], AbstractContextManager[Connection]],
    ) -> None:
        self._turn, self._transaction = turn, transaction
        self._lock = threading.Lock()
        self._waiting: list[Seat] = []
        self._led = False
        self._all_here = threading.Event()
        self._expected, self._patience_s = 1, 0.0

    def write(self, write: Write[Item, Outcome], items: Sequence[Item], seconds: float) -> Sequence[Outcome]:
        """Write `items`, perhaps together with others'; one outcome an item. Returns after the commit.

        An error undoes only the items of the caller that it is raised to. Raises `TimeoutError`, or what `turn`
        raises, when there is no turn within `seconds`; what a leader has taken by then may still be written.
        """
        until = time.monotonic() + seconds
        seat = Seat(write, items)
        with self._lock:
            self._waiting.append(seat)
            if not self._led:
                self._led = seat.leads = True
            elif len(self._waiting) >= self._expected:
                self._all_here.set()
        if not seat.leads:
            try:
                in_time = seat.asleep.acquire(timeout=seconds)
            except BaseException:  # Ctrl-C while it waits: nobody may be left to lead who is not there
                self._leave(seat)
                raise
            if not in_time and self._leave(seat):
                raise TimeoutError
        if seat.leads:
            self._lead(seat, until)
        if seat.error is not None:
            raise seat.error
        return seat.outcomes

    def _lead(self, mine: Seat, until: float) -> None:
        taken: list[Seat] = []
        try:
            self._gather()
            with self._turn(max(0.0, until - time.monotonic())):
                with self._lock:
                    taken, self._waiting = self._waiting[:LARGEST], self._waiting[LARGEST:]
                begun = time.monotonic()
                self._together(taken)
                self._patience_s = PATIENCE * (time.monotonic() - begun)
        finally:
            with self._lock:
                if not taken and mine in self._waiting:
                    self._waiting.remove(mine)
                for seat in taken:
                    seat.settled = True
                    seat.asleep.release()
                self._expected = min(LARGEST, len(taken) + len(self._waiting))
                self._hand_on()

    def _hand_on(self) -> None:
        self._led = bool(self._waiting)
        if self._waiting:
            self._waiting[0].leads = True
            self._waiting[0].asleep.release()

    def _leave(self, seat: Seat) -> bool:
        """Give up waiting; False when all is done already."""
        with self._lock:
            if seat in self._waiting:
                self._waiting.remove(seat)
            if seat.leads:
                self._hand_on()
            return not seat.settled

    def _gather(self) -> None:
        """Wait a moment for as many as wrote or waited last time. Without it the callers fall into two halves, each
        waiting for the other's commit. A caller that is alone expects nobody, and waits for nobody."""
        with self._lock:
            if len(self._waiting) >= self._expected:
                return
            self._all_here.clear()
        self._all_here.wait(self._patience_s)

    def _together(self, seats: Sequence[Seat]) -> None:
        writing = False
        try:
            with self._transaction() as conn:
                writing = True
                for write, part in groupby(seats, lambda seat: seat.write):
                    _write(conn, write, list(part))
                writing = False
        except Exception as error:  # noqa: BLE001 - handed to the threads whose items they were
            # Some caller's items failed the batch, and all of it is rolled back: one by one, so that only that caller
            # hears of it. Not after a failed commit, of which nobody knows whether it took place.
            if writing and len(seats) > 1:
                for seat in seats:
                    self._together([seat])
                return
            for seat in seats:
                seat.error = error
        else:
            for seat in seats:
                seat.error = None


def _write(conn: Connection, write: Write[Any, Any], seats: Sequence[Seat]) -> None:
    outcomes = write(conn, [item for seat in seats for item in seat.items])
    start = 0
    for seat in seats:
        seat.outcomes = outcomes[start : start + len(seat.items)]
        start += len(seat.items)
