"""Time is injected: components take a `Clock`, so that tests move it by hand. All times are UTC and aware."""

from __future__ import annotations

import datetime as dt
import threading
from typing import Protocol

UTC = dt.UTC


class Clock(Protocol):
    """Where a component reads the time."""

    def now(self) -> dt.datetime:
        """The current time, aware, in UTC."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> dt.datetime:
        return dt.datetime.now(UTC)


class ManualClock:
    """A clock that stands still until it is moved; for tests and replays.

    >>> clock = ManualClock(dt.datetime(2026, 1, 1, tzinfo=UTC))
    >>> clock.advance(90); clock.now().minute
    1
    """

    def __init__(self, start: dt.datetime | None = None) -> None:
        self._now = as_utc(start) if start else dt.datetime(2026, 1, 1, tzinfo=UTC)
        self._lock = threading.Lock()

    def now(self) -> dt.datetime:
        with self._lock:
            return self._now

    def advance(self, seconds: float) -> None:
        """Move the clock; negative seconds move it back, as a real clock sometimes does."""
        with self._lock:
            self._now += dt.timedelta(seconds=seconds)


def as_utc(value: dt.datetime) -> dt.datetime:
    """Return `value` in UTC. A naive datetime is refused: guessing its zone would move facts in time."""
    if value.tzinfo is None:
        raise ValueError(f"naive datetime {value.isoformat()}: give it a time zone, e.g. +00:00")
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"{value.isoformat()} lies outside the years 1 to 9999 in UTC") from None


def parse_time(text: str) -> dt.datetime:
    """Parse ISO 8601 with an offset or Z (`2026-01-31T09:00:00Z`) into UTC; ValueError without a zone."""
    return as_utc(dt.datetime.fromisoformat(text))
