"""Keep the leases of a batch alive while it is worked."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator, Sequence

from smartmem.db.leases import Leases
from smartmem.errors import StoreUnavailable

log = logging.getLogger(__name__)


class Heartbeat:
    """One thread that renews what `over` names, every `renew_s` seconds. Started by the first batch that lasts."""

    def __init__(self, leases: Leases, renew_s: float) -> None:
        self._leases, self._renew_s = leases, renew_s
        self._changed = threading.Condition()
        self._held: tuple[str, list[int]] | None = None
        self._lost: set[int] = set()
        self._thread: threading.Thread | None = None
        self._closed = False

    @property
    def lost(self) -> set[int]:
        """Ids of the current batch whose lease was found to be gone: work on them should stop."""
        with self._changed:
            return set(self._lost)

    @contextlib.contextmanager
    def over(self, token: str, ids: Sequence[int]) -> Iterator[None]:
        """Renew these rows until the block ends. Rows that are finished meanwhile are not harmed by a renewal."""
        with self._changed:
            self._held, self._lost = (token, list(ids)), set()
            if self._thread is None:
                self._closed = False
                self._thread = threading.Thread(target=self._beat, name="smartmem-heartbeat", daemon=True)
                self._thread.start()
        try:
            yield
        finally:
            with self._changed:
                self._held = None

    def close(self) -> None:
        """End the thread."""
        with self._changed:
            thread, self._thread = self._thread, None
            self._closed = True
            self._changed.notify_all()
        if thread is not None:
            thread.join()

    def _beat(self) -> None:
        while True:
            with self._changed:
                if self._closed or self._changed.wait_for(lambda: self._closed, self._renew_s):
                    return
                held = self._held
            if held is not None:
                self._renew(*held)

    def _renew(self, token: str, ids: list[int]) -> None:
        try:
            gone = self._leases.renew(token, ids)
        except StoreUnavailable as error:
            log.warning("leases were not renewed: %s", error)  # the fence decides in the end
            return
        with self._changed:
            if self._held is not None and self._held[0] == token:
                self._lost |= gone
