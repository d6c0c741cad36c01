"""What a piece of work costs the database and its driver alone: its statements, recorded once and then said again.

Whatever is measured above this is Python of ours; whatever lies below it no Python could save without saying less.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event, text
from sqlalchemy.engine import Connection

from smartmem.clock import ManualClock
from smartmem.db.engine import Database

COMMIT = None
Said = list[tuple[str, Any, bool, int] | None]  # statement, parameters, whether many, rows changed; or a commit


@contextmanager
def heard(db: Database) -> Iterator[Said]:
    """What goes to the driver meanwhile, from all threads in one order: for work of one thread."""
    said: Said = []

    def hear(_conn: Connection, cursor: Any, statement: str, params: Any, _context: Any, many: bool) -> None:
        said.append((statement, params, many, cursor.rowcount))

    def commit(_conn: Connection) -> None:
        said.append(COMMIT)

    event.listen(db.engine, "after_cursor_execute", hear)
    event.listen(db.engine, "commit", commit)
    event.listen(db.engine, "rollback", commit)  # the end of a read
    try:
        yield said
    finally:
        event.remove(db.engine, "after_cursor_execute", hear)
        event.remove(db.engine, "commit", commit)
        event.remove(db.engine, "rollback", commit)


def again(db: Database, said: Said) -> float:
    """Seconds for the same statements and commits by the driver, on tables as they were before.

    Raises `ValueError` when a statement changes another number of rows than it did: then it is not the same work.
    """
    raw = db.engine.raw_connection()
    try:
        connection = raw.driver_connection
        assert connection is not None
        cursor = connection.cursor()
        changed = []
        begun = time.perf_counter()
        for one in said:
            if one is COMMIT:
                connection.commit()
                continue
            statement, params, many, _ = one
            if many:
                cursor.executemany(statement, params)
            else:
                cursor.execute(statement, params)
            changed.append(cursor.rowcount)
            if cursor.description is not None:
                cursor.fetchall()
        seconds = time.perf_counter() - begun
    finally:
        raw.close()
    for one, rows in zip((one for one in said if one is not COMMIT), changed, strict=True):
        if one[3] != rows:
            raise ValueError(f"{rows} rows, not {one[3]}: {one[0][:300]}")
    return seconds


def alone(
    db: Database,
    empty: Callable[[Database], None],
    work: Callable[[], object],
    before: Callable[[], object] = lambda: None,
) -> float:
    """Seconds of `work` without its Python: done once and listened to, then said again on the same tables, which are
    emptied and filled by `before` each time. The clock stands still meanwhile: what was due then is due now."""

    def anew() -> None:
        empty(db)
        _first_ids(db)
        before()

    clock, db.clock = db.clock, ManualClock(db.now())
    try:
        anew()
        with heard(db) as said:
            work()
        anew()
    finally:
        db.clock = clock
    return again(db, said)


def _first_ids(db: Database) -> None:
    """Numbers of rows begin at one again (TRUNCATE has done so on MySQL), so that recorded ids are the same."""
    if db.dialect == "sqlite":
        with db.begin() as conn:
            if conn.execute(text("SELECT 1 FROM sqlite_master WHERE name='sqlite_sequence'")).scalar():
                conn.execute(text("DELETE FROM sqlite_sequence"))
