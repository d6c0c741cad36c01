"""Several relays and workers in processes of their own, killed at random, and a database that is restarted.

The full proof, 20,000 messages of 200 users with 4 relays and 4 workers on MariaDB, runs with
SMARTMEM_PROFILE=full; the default run does the same with fewer, so that the suite stays short.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from sqlalchemy import func, select

from smartmem.chat.history import Appended, NewMessage, append_messages
from smartmem.db.engine import Database
from smartmem.db.tables import memory_jobs, outbox_messages
from smartmem.errors import StoreUnavailable
from smartmem.jobs.worker import Worker
from smartmem.outbox.relay import Relay
from tests.support import pipeline_process, story
from tests.support.handlers import FactHandler
from tests.support.mariadb import MariaDBServer
from tests.support.net import poll
from tests.support.pipeline import message

FULL = os.environ.get("SMARTMEM_PROFILE") == "full"
MESSAGES, USERS, EACH, KILLS = (20_000, 200, 4, 40) if FULL else (1_500, 30, 2, 4)
SECONDS = 1_500 if FULL else 120

pytestmark = pytest.mark.timeout(SECONDS + 60)


@pytest.fixture(scope="module")
def forks() -> multiprocessing.context.ForkServerContext:
    """Children of a process that has imported everything: a restart costs milliseconds, not a second."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.support.pipeline_process", "pymysql"])
    return context


def messages(count: int, users: int) -> list[NewMessage]:
    return [message(1 + n % users, f"fact {n}", client_message_id=str(n)) for n in range(count)]


def append_all(db: Database, wanted: list[NewMessage], batch: int = 50) -> None:
    """A client that goes on until each batch is acknowledged."""
    for start in range(0, len(wanted), batch):
        part = wanted[start : start + batch]
        while True:
            try:
                assert all(isinstance(one, Appended) for one in append_messages(db, part))
                break
            except StoreUnavailable:
                time.sleep(0.05)


def unfinished(db: Database) -> int:
    try:
        with db.read() as conn:
            waiting = [
                select(func.count()).select_from(table).where(table.c.due_at.is_not(None))
                for table in (outbox_messages, memory_jobs)
            ]
            return sum(conn.execute(count).scalar_one() for count in waiting)
    except StoreUnavailable:
        return -1


@pytest.mark.mariadb
def test_killed_processes_lose_nothing_and_do_nothing_twice(
    forks: multiprocessing.context.ForkServerContext, mariadb_server: MariaDBServer
) -> None:
    url = mariadb_server.create_database()
    db = Database.open(url)
    db.migrate()
    wanted = messages(MESSAGES, USERS)
    rng = random.Random(20260101)
    slices = [wanted[MESSAGES * n // (KILLS + 1) : MESSAGES * (n + 1) // (KILLS + 1)] for n in range(KILLS + 1)]
    kinds: list[Callable[[str], None]] = [pipeline_process.relay, pipeline_process.worker] * EACH
    running: list[BaseProcess] = [_start(forks, kind, url) for kind in kinds]
    try:
        # A kill in the midst of each slice but the last, however fast the machine: they go by the work, not the clock.
        for number, part in enumerate(slices):
            sender = threading.Thread(target=append_all, args=(db, part))
            sender.start()
            if number < KILLS:
                assert poll(functools.partial(_busy, db, sender), seconds=SECONDS, every=0.002)
                place = rng.randrange(len(kinds))
                running[place].kill()
                running[place].join()
                running[place] = _start(forks, kinds[place], url)
            sender.join(SECONDS)
        assert poll(lambda: not unfinished(db), seconds=SECONDS), f"{unfinished(db)} rows are unfinished"
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.join(20)
    assert [one.exitcode for one in running] == [0] * len(kinds), "a process did not stop gracefully"
    print(f"\n{MESSAGES} messages of {USERS} users, {len(kinds)} processes, {KILLS} kills")
    story.check(db, wanted, poison="")
    db.close()
    mariadb_server.drop(url)


def _busy(db: Database, sender: threading.Thread) -> bool:
    return unfinished(db) > 0 or not sender.is_alive()


def _start(forks: multiprocessing.context.ForkServerContext, kind: Callable[[str], None], url: str) -> BaseProcess:
    process = forks.Process(target=kind, args=(url,), daemon=True)
    process.start()
    return process


def test_several_processes_on_one_sqlite_file(
    forks: multiprocessing.context.ForkServerContext, sqlite_url: str
) -> None:
    db = Database.open(sqlite_url)
    wanted = messages(400, 20)
    running = [_start(forks, kind, sqlite_url) for kind in (pipeline_process.relay, pipeline_process.worker) * 2]
    append_all(db, wanted)
    victim = running[1]
    victim.kill()
    victim.join()
    assert poll(lambda: not unfinished(db), seconds=60)
    for process in running:
        process.terminate()
    for process in running:
        process.join(20)
    story.check(db, wanted, poison="")
    db.close()


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[MariaDBServer]:
    with MariaDBServer(folder=tmp_path) as server:
        yield server


@pytest.mark.mariadb
@pytest.mark.parametrize("crash", [False, True], ids=["stopped", "killed"])
def test_the_database_goes_away_and_comes_back(own_server: MariaDBServer, crash: bool) -> None:
    url = own_server.create_database()
    db = Database.open(url)
    db.migrate()
    outbox, jobs = story.settings(**pipeline_process.CHANGES)
    stop = threading.Event()
    relay = Relay(db, story.registry(jobs), outbox)
    worker = Worker(db, [FactHandler()], jobs)
    wanted = messages(600, 20)
    threads = [
        threading.Thread(target=append_all, args=(db, wanted, 10)),
        threading.Thread(target=lambda: relay.run(stop, poll_s=0.1)),
        threading.Thread(target=lambda: worker.run(stop)),
    ]
    for thread in threads:
        thread.start()
    for _ in range(2):
        before = unfinished(db)
        poll(lambda before=before: unfinished(db) != before, seconds=2)  # in mid-run
        own_server.restart(crash=crash)
    threads[0].join(60)
    assert poll(lambda: not unfinished(db), seconds=60)
    stop.set()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    story.check(db, wanted, poison="")
    db.close()
