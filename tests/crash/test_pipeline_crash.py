"""Die, as by kill -9, before and after every statement and every commit of a small history; then recover.

Whatever the point: nothing that was acknowledged is lost, nothing is done twice, the order is kept, and what was
never committed left no trace (tests/support/story.py says it in full).
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from smartmem.db.engine import Database
from smartmem.errors import StoreUnavailable
from tests.support import story
from tests.support.crash import CrashPoint, CrashRunner, crash_points, lost_acknowledgement
from tests.support.pipeline import empty


def _every_point(
    crash: CrashRunner, fresh: Callable[[int], str], tmp_path: Path, report: str, *, after_only: bool
) -> None:
    acks = tmp_path / "acks"
    first = fresh(0)
    counts = crash.count_points(story.whole, first, str(acks))
    story.check(first)
    assert counts.statements > 80
    started, tried = time.monotonic(), 0
    for point in crash_points(counts):
        # Before statement n and after statement n-1 are one state of the database; on MariaDB once is enough.
        if after_only and point.kind == "statement" and point.when == "before":
            continue
        acks.unlink(missing_ok=True)
        url = fresh(tried + 1)
        result = crash.run_until(point, story.whole, url, str(acks))
        assert result.reached, point
        told = set(acks.read_text().split()) if acks.exists() else set()
        assert told <= story.stored(url), f"acknowledged and lost at {point}"
        story.recover(url)
        try:
            story.check(url)
        except AssertionError as error:
            raise AssertionError(f"after a crash {point}: {error}") from error
        tried += 1
    print(
        f"\n{report}: {tried} crash points ({counts.statements} statements, {counts.commits} commits) "
        f"in {time.monotonic() - started:.0f} s"
    )


@pytest.fixture
def template(tmp_path: Path) -> Path:
    file = tmp_path / "template.db"
    db = Database.open(f"sqlite:///{file}")
    db.migrate()
    db.close()
    return file


def test_every_point_on_sqlite(crash_runner: CrashRunner, template: Path, tmp_path: Path) -> None:
    def fresh(number: int) -> str:
        file = tmp_path / f"{number}.db"
        shutil.copy(template, file)
        for old in tmp_path.glob(f"{number - 2}.db*"):
            old.unlink()
        return f"sqlite:///{file}"

    _every_point(crash_runner, fresh, tmp_path, "SQLite", after_only=False)


@pytest.mark.mariadb
@pytest.mark.timeout(600)
def test_every_point_on_mariadb(crash_runner: CrashRunner, mariadb_url: str, tmp_path: Path) -> None:
    db = Database.open(mariadb_url)
    db.migrate()
    db.close()

    def fresh(_number: int) -> str:
        empty(mariadb_url)
        return mariadb_url

    _every_point(crash_runner, fresh, tmp_path, "MariaDB", after_only=True)


@pytest.mark.parametrize("commit", [1, 2, 4, 8, 12, 16])
def test_a_lost_acknowledgement(any_url: str, tmp_path: Path, commit: int) -> None:
    """The commit took place and the program was told that it failed: doing it again must change nothing."""
    with lost_acknowledgement(commit) as hook:
        try:
            story.whole(any_url, str(tmp_path / "acks"))
        except (OperationalError, StoreUnavailable):
            pass
        assert hook.reached if hasattr(hook, "reached") else True
    story.recover(any_url)
    story.check(any_url)


def test_points_are_named() -> None:
    assert "after" in str(CrashPoint("after", "commit", 3))
