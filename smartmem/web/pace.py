"""Keeping to a provider's rate limit, and leaving it alone for as long as it asked."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from smartmem.errors import ConfigError


class Pacer:
    """Hands out turns at most `rate_per_s` times a second; safe to share between threads.

    `monotonic` and `sleep` are the machine's unless a test moves time by hand.
    """

    def __init__(
        self,
        rate_per_s: float,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if rate_per_s <= 0:
            raise ConfigError(f"web.search.rate_per_s has {rate_per_s}; write a number above 0, or drop the provider")
        self._gap = 1.0 / rate_per_s
        self._monotonic, self._sleep = monotonic, sleep
        self._lock = threading.Lock()
        self._next = 0.0
        self._closed_until = 0.0

    def turn(self, max_wait_s: float) -> float:
        """Wait for a turn and return 0, or return at once the seconds it would take if that is over `max_wait_s`."""
        with self._lock:
            now = self._monotonic()
            if self._closed_until > now:
                return self._closed_until - now
            wait = max(0.0, self._next - now)
            if wait > max_wait_s:
                return wait
            self._next = now + wait + self._gap
        if wait:
            self._sleep(wait)
        return 0.0

    def close_for(self, seconds: float) -> None:
        """Give no turn for `seconds`: the provider said when to come back."""
        with self._lock:
            self._closed_until = max(self._closed_until, self._monotonic() + seconds)
