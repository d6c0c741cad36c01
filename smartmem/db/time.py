"""The time that leases are measured with: the database's, carried on by a clock that nobody can set.

Several machines share one database, and their clocks differ; a lease that one machine's clock grants would be
expired on another's. So the time is asked of the database and then carried on with the time since boot, which
neither NTP nor an operator moves. A server is asked again every `RESYNC_S`, because quartz drifts.

SQLite has no server: its time is this machine's, read once. Should the clock be set while processes run, then
processes started later live in another time than the older ones. That does no lasting harm: a lease that looks
expired too early is fenced by its token, and rows due further ahead than any legal delay are pulled back
(db/leases.py).
"""

from __future__ import annotations

import datetime as dt
import threading
import time
from collections.abc import Callable

from smartmem.clock import UTC

RESYNC_S = 30.0


def since_boot() -> float:
    """Seconds on a clock that cannot be set; where the system allows, one that also runs during sleep."""
    boottime = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boottime is None else time.clock_gettime(boottime)


class DatabaseClock:
    """`now()` is the database's time. `ask` returns it (aware, UTC); None means this machine's clock, asked once."""

    def __init__(self, ask: Callable[[], dt.datetime] | None, *, resync_s: float = RESYNC_S) -> None:
        self._ask = ask
        self._resync_s = resync_s
        self._lock = threading.Lock()
        self._base: dt.datetime | None = None
        self._base_at = 0.0

    def now(self) -> dt.datetime:
        """The time, aware, in UTC. Raises `StoreUnavailable` when a server has to be asked and does not answer."""
        mark = since_boot()
        base = self._base
        if base is None or (self._ask is not None and mark - self._base_at > self._resync_s):
            return self._sync()
        return base + dt.timedelta(seconds=mark - self._base_at)

    def _sync(self) -> dt.datetime:
        before = since_boot()
        answer = self._ask() if self._ask is not None else dt.datetime.now(UTC)
        # The answer was true at some moment of the round trip; the middle halves the error.
        middle = (before + since_boot()) / 2
        with self._lock:
            self._base, self._base_at = answer, middle
        return answer
