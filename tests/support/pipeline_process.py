"""A relay or a worker as a process of its own, for tests that kill it."""

from __future__ import annotations

import signal
import threading
from typing import Any

from smartmem.db.engine import Database
from smartmem.errors import StoreUnavailable
from smartmem.jobs.worker import Worker
from smartmem.outbox.relay import Relay
from tests.support import story
from tests.support.handlers import FactHandler

# Short leases, so that a killed process's rows come back in a second; no limit that random kills could reach.
CHANGES: dict[str, Any] = {"lease_s": 1.5, "renew_s": 0.4, "batch": 40, "max_retry": 100}


def relay(url: str) -> None:
    outbox, jobs = story.settings(**CHANGES)
    db = _open(url)
    Relay(db, story.registry(jobs), outbox).run(_stop(), poll_s=0.2)
    db.close()


def worker(url: str) -> None:
    jobs = story.settings(**CHANGES)[1].model_copy(update={"poll_s": 0.2})
    db = _open(url)
    Worker(db, [FactHandler()], jobs).run(_stop())
    db.close()


def _open(url: str) -> Database:
    db = Database.open(url)
    stop = threading.Event()
    while True:
        try:
            db.now()
            return db
        except StoreUnavailable:
            stop.wait(0.1)


def _stop() -> threading.Event:
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    return stop
