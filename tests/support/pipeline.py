"""Databases and small makers for the tests of the pipeline."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, insert, select

from smartmem.chat.history import NewMessage
from smartmem.clock import UTC, ManualClock
from smartmem.db.engine import Database
from smartmem.db.tables import memory_job_events, memory_jobs, metadata, outbox_messages
from smartmem.jobs.types import NewJob
from tests.support.mariadb import MariaDBServer

START = dt.datetime(2026, 1, 1, tzinfo=UTC)

_numbers = itertools.count(1)


@pytest.fixture(params=["sqlite", pytest.param("mariadb", marks=pytest.mark.mariadb)])
def any_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty, migrated database: SQLite and MariaDB in turn."""
    if request.param == "sqlite":
        return _migrated(f"sqlite:///{tmp_path}/test.db")
    server: MariaDBServer = request.getfixturevalue("mariadb_server")
    return _shared_mariadb(server)


@pytest.fixture
def db(any_url: str) -> Iterator[Database]:
    """An empty, migrated database whose clock stands still: SQLite and MariaDB in turn."""
    database = Database.open(any_url, clock=ManualClock(START))
    yield database
    database.close()


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return _migrated(f"sqlite:///{tmp_path}/test.db")


_SHARED: dict[int, str] = {}


def _shared_mariadb(server: MariaDBServer) -> str:
    """One migrated database for all tests of a run, emptied for each: migrating costs 150 ms, emptying 10."""
    url = _SHARED.get(id(server))
    if url is None:
        url = _SHARED[id(server)] = _migrated(server.create_database())
    database = Database.open(url)
    empty(database)
    database.close()
    return url


def _migrated(url: str) -> str:
    database = Database.open(url)
    database.migrate()
    database.close()
    return url


def empty(database: Database) -> None:
    with database.begin() as conn:
        for table in reversed(metadata.sorted_tables):
            conn.execute(delete(table))


def clock_of(db: Database) -> ManualClock:
    assert isinstance(db.clock, ManualClock)
    return db.clock


def job(user_id: int = 1, *, key: str | None = None, job_type: str = "extract", **payload: Any) -> NewJob:
    number = next(_numbers)
    return NewJob(
        user_id=user_id,
        job_type=job_type,
        idempotency_key=key or f"key-{number}",
        payload={"source_text": f"text {number}", **payload},
        trace_id=f"trace-{number}",
        order_key=f"{'v' if job_type == 'embed' else 'u'}{user_id}",
    )


def message(user_id: int = 1, content: str = "I like tea", **changes: Any) -> NewMessage:
    values: dict[str, Any] = {
        "user_id": user_id,
        "conversation_id": f"c{user_id}",
        "role": "user",
        "content": content,
        "occurred_at": START,
    }
    return NewMessage(**(values | changes))


def put_events(db: Database, keys: Sequence[str], *, max_retry: int = 20, **columns: Any) -> list[int]:
    """Raw outbox rows, one for each key; returns their ids in order."""
    now = db.now()
    with db.begin() as conn:
        before = conn.execute(select(outbox_messages.c.id).order_by(outbox_messages.c.id.desc()).limit(1)).scalar()
        for key in keys:
            number = next(_numbers)
            values = {
                "event_id": f"event-{number}",
                "event_type": "test.happened",
                "event_version": 1,
                "aggregate_type": "test",
                "aggregate_id": key,
                "message_key": key,
                "payload": "{}",
                "trace_id": f"trace-{number}",
                "status": "pending",
                "retry_count": 0,
                "max_retry": max_retry,
                "due_at": now,
                "order_key": key,
                "created_at": now,
            }
            conn.execute(insert(outbox_messages).values(values | columns))
        ids = conn.execute(select(outbox_messages.c.id).where(outbox_messages.c.id > (before or 0)))
        return sorted(ids.scalars())


def rows(db: Database, table: Any = memory_jobs) -> list[Any]:
    with db.read() as conn:
        return list(conn.execute(select(table).order_by(*table.primary_key.columns)))


def statuses(db: Database, table: Any = memory_jobs) -> list[str]:
    return [row.status for row in rows(db, table)]


def history(db: Database, job_id: int) -> list[tuple[str | None, str, int]]:
    found = [row for row in rows(db, memory_job_events) if row.job_id == job_id]
    return [(row.from_status, row.to_status, row.attempt) for row in found]
