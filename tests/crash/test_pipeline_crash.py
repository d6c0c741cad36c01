"""Die, as by kill -9, before and after every statement and every commit of a small history; then recover.

Whatever the point: nothing that was acknowledged is lost, nothing is done twice, the order is kept, and what was
never committed left no trace (tests/support/story.py says it in full).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import OperationalError

from smartmem.db.engine import Database
from smartmem.db.tables import memory_items, memory_job_events, outbox_messages
from smartmem.errors import StoreUnavailable
from tests.support import story
from tests.support.crash import CrashRunner, crash_points, lost_acknowledgement
from tests.support.mariadb import MariaDBServer
from tests.support.pipeline import empty

FULL = os.environ.get("SMARTMEM_PROFILE") == "full"


def _every_point(crash: CrashRunner, db: Database, clear: Callable[[], None], folder: Path, report: str) -> None:
    acks, url = folder / "acks", db.engine.url.render_as_string(hide_password=False)
    counts = crash.count_points(story.whole, url, str(acks))
    story.check(db)
    assert counts.statements > 80
    started, tried = time.monotonic(), 0
    for point in crash_points(counts):
        # Dead before statement n or after statement n-1: the database and its clients are in one and the same state.
        # The full profile tries both; otherwise the first statement's "before" stands for the beginning.
        if point.kind == "statement" and point.when == "before" and point.n > 1 and not FULL:
            continue
        acks.unlink(missing_ok=True)
        clear()
        result = crash.run_until(point, story.whole, url, str(acks))
        assert result.reached, point
        told = set(acks.read_text().split()) if acks.exists() else set()
        assert told <= story.stored(db), f"acknowledged and lost at {point}"
        story.recover(db)
        try:
            story.check(db)
        except AssertionError as error:
            raise AssertionError(f"after a crash {point}: {error}") from error
        tried += 1
    print(
        f"\n{report}: {tried} crash points ({counts.statements} statements, {counts.commits} commits) "
        f"in {time.monotonic() - started:.0f} s"
    )


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """In memory where there is such a folder: a killed process, unlike a power cut, asks nothing of the disk."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def server() -> Iterator[MariaDBServer]:
    memory = Path("/dev/shm")
    with MariaDBServer(folder=memory if memory.is_dir() else None) as running:
        yield running


def test_every_point_on_sqlite(crash_runner: CrashRunner, tmp_path: Path) -> None:
    file, template = tmp_path / "story.db", tmp_path / "template.db"
    made = Database.open(f"sqlite:///{template}")
    made.migrate()
    made.close()
    shutil.copy(template, file)
    db = story.later(f"sqlite:///{file}")

    def clear() -> None:
        db.close()  # it opens again, with its compiled statements, which take longer than the story
        for old in tmp_path.glob("story.db*"):
            old.unlink()
        shutil.copy(template, file)

    _every_point(crash_runner, db, clear, tmp_path, "SQLite")
    db.close()


@pytest.mark.mariadb
def test_every_point_on_mariadb(crash_runner: CrashRunner, server: MariaDBServer, tmp_path: Path) -> None:
    db = story.later(server.create_database())
    db.migrate()
    _every_point(crash_runner, db, lambda: empty(db), tmp_path, "MariaDB")
    db.close()


@pytest.mark.parametrize("commit", [1, 2, 4, 8, 12, 16])
def test_a_lost_acknowledgement(any_url: str, tmp_path: Path, commit: int) -> None:
    """The commit took place and the program was told that it failed: doing it again must change nothing."""
    # Some parts report the error, others find for themselves that the rows are done and drop their second try.
    with lost_acknowledgement(commit), contextlib.suppress(OperationalError, StoreUnavailable):
        story.whole(any_url, str(tmp_path / "acks"))
    db = story.later(any_url)
    story.recover(db)
    story.check(db)
    db.close()


def test_the_check_sees_a_job_done_twice_and_one_lost(sqlite_url: str, tmp_path: Path) -> None:
    """A check that nothing can fail proves nothing."""
    story.whole(sqlite_url, str(tmp_path / "acks"))
    db = story.later(sqlite_url)
    story.check(db)
    for table, change in (
        (memory_items, {"source_job_id": 999_999}),  # no such job: ids are made at random within a millisecond
        (outbox_messages, {"status": "pending"}),
        (memory_job_events, {"to_status": "failed"}),
    ):
        with db.engine.connect() as conn:
            last = conn.scalar(select(func.max(table.c.id)))
            before = conn.execute(select(table).where(table.c.id == last)).one()._mapping
            conn.execute(table.update().where(table.c.id == last).values(change))
            conn.commit()
            with pytest.raises(AssertionError):
                story.check(db)
            conn.execute(table.update().where(table.c.id == last).values({name: before[name] for name in change}))
            conn.commit()
    story.check(db)
    db.close()
