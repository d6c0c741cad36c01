"""Protection of an endpoint from us, and of us from an endpoint: a rate limit and a circuit breaker."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from smartmem.errors import TransientModelError
from smartmem.llm.model import ChatAnswer, ChatModel, ChatRequest


class GuardedChat:
    """At most `per_minute` calls in any minute (0: no limit; callers wait their turn).

    After `failures` transient failures in a row the circuit is open for `pause_s`: calls fail at once, as
    `TransientModelError`, instead of each waiting for its time-out. Then one call tries; its success closes it.
    """

    def __init__(
        self,
        inner: ChatModel,
        *,
        per_minute: int = 0,
        failures: int = 5,
        pause_s: float = 30.0,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._inner = inner
        self._per_minute, self._failures, self._pause_s = per_minute, failures, pause_s
        self._monotonic, self._sleep = monotonic, sleep
        self._lock = threading.Lock()
        self._calls: deque[float] = deque()
        self._failed = 0
        self._open_until = 0.0

    @property
    def name(self) -> str:
        return self._inner.name

    def complete(self, request: ChatRequest) -> ChatAnswer:
        self._pass_breaker()
        self._wait_turn()
        try:
            answer = self._inner.complete(request)
        except TransientModelError:
            with self._lock:
                self._failed += 1
                if self._failed >= self._failures:
                    self._open_until = self._monotonic() + self._pause_s
            raise
        with self._lock:
            self._failed, self._open_until = 0, 0.0
        return answer

    def _pass_breaker(self) -> None:
        with self._lock:
            left = self._open_until - self._monotonic()
            if left > 0:
                raise TransientModelError(
                    f"model {self.name}: {self._failed} calls failed in a row; none is made for another {left:.0f} s"
                )
            if self._failed >= self._failures:
                # Half open: this call tries, the others go on waiting for what it finds.
                self._open_until = self._monotonic() + self._pause_s

    def _wait_turn(self) -> None:
        if not self._per_minute:
            return
        while True:
            with self._lock:
                now = self._monotonic()
                while self._calls and now - self._calls[0] >= 60:
                    self._calls.popleft()
                if len(self._calls) < self._per_minute:
                    self._calls.append(now)
                    return
                wait = 60 - (now - self._calls[0])
            self._sleep(wait)
