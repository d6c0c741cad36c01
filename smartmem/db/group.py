"""Group commit: the works of several threads in one transaction, each undone alone when it fails."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Generic, TypeVar

from sqlalchemy.engine import Connection

T = TypeVar("T")

LARGEST = 64  # works in one transaction: a bound for how long the first of them waits


class Seat(Generic[T]):
    """One caller's work, and what became of it."""

    def __init__(self, work: Callable[[Connection], T]) -> None:
        self.work = work
        self.settled = False
        self._result: T | None = None
        self._error: BaseException | None = None

    def succeed(self, result: T) -> None:
        self._result = result

    def fail(self, error: BaseException) -> None:
        self._error = error

    def answer(self) -> T:
        """The work's result, or its error, raised in the thread that asked for it."""
        if self._error is not None:
            raise self._error
        return self._result  # type: ignore[return-value] # set by the leader unless there was an error


class Group:
    """Those who wait to write. Only who holds the writer's turn may `lead`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[Seat[Any]] = []

    def join(self, work: Callable[[Connection], T]) -> Seat[T]:
        seat = Seat(work)
        with self._lock:
            self._waiting.append(seat)
        return seat

    def leave(self, seat: Seat[Any]) -> None:
        """Give up waiting. A work that a leader has already taken may still be done: it must be idempotent."""
        with self._lock:
            if seat in self._waiting:
                self._waiting.remove(seat)

    def lead(self, transaction: Callable[[], AbstractContextManager[Connection]]) -> None:
        """Run all that wait, the first LARGEST of them at a time, until nobody who waited is left."""
        with self._lock:
            waiting, self._waiting = self._waiting, []
        for start in range(0, len(waiting), LARGEST):
            self._together(waiting[start : start + LARGEST], transaction)

    def _together(self, seats: list[Seat[Any]], transaction: Callable[[], AbstractContextManager[Connection]]) -> None:
        try:
            with transaction() as conn:
                for seat in seats:
                    self._one(conn, seat, alone=len(seats) == 1)
        except BaseException as error:
            for seat in seats:  # nothing was committed, so nobody succeeded
                seat.fail(error)
            if not isinstance(error, Exception):
                raise
        finally:
            for seat in seats:
                seat.settled = True

    def _one(self, conn: Connection, seat: Seat[Any], *, alone: bool) -> None:
        if alone:
            seat.succeed(seat.work(conn))
            return
        conn.exec_driver_sql("SAVEPOINT seat")
        try:
            seat.succeed(seat.work(conn))
        except Exception as error:  # noqa: BLE001 - handed to the thread whose work it was
            conn.exec_driver_sql("ROLLBACK TO seat")
            seat.fail(error)
        conn.exec_driver_sql("RELEASE seat")
