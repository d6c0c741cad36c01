"""Transactions, retries, errors and the time: the same on every database."""

from __future__ import annotations

import datetime as dt
import threading
from pathlib import Path

import pytest
from sqlalchemy import func, insert, select, text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError, OperationalError

from smartmem.clock import UTC
from smartmem.db.engine import Database
from smartmem.db.tables import memory_user_settings
from smartmem.db.time import DatabaseClock
from smartmem.errors import ConfigError, MissingExtra, StoreError, StoreUnavailable
from tests.support.pipeline import START


def row(user_id: int, enabled: bool = True) -> dict[str, object]:
    return {
        "user_id": user_id,
        "memory_enabled": enabled,
        "implicit_memory_enabled": True,
        "sensitive_memory_enabled": False,
        "updated_at": START,
    }


def count(db: Database) -> int:
    with db.read() as conn:
        return conn.execute(select(func.count()).select_from(memory_user_settings)).scalar_one()


def test_a_transaction_commits_whole_or_not_at_all(db: Database) -> None:
    with db.begin() as conn:
        conn.execute(insert(memory_user_settings), [row(1), row(2)])

    def half() -> None:
        with db.begin() as conn:
            conn.execute(insert(memory_user_settings), [row(3)])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        half()
    assert count(db) == 2


def test_insert_ignore_keeps_the_first_and_hides_nothing_else(db: Database) -> None:
    with db.begin() as conn:
        conn.execute(db.insert_ignore(memory_user_settings), [row(1)])
        conn.execute(db.insert_ignore(memory_user_settings), [row(1, enabled=False), row(2)])
    with db.read() as conn:
        assert conn.execute(select(memory_user_settings.c.memory_enabled)).scalars().all() == [True, True]
    with pytest.raises(DBAPIError), db.begin() as conn:
        conn.execute(db.insert_ignore(memory_user_settings), [row(3) | {"memory_enabled": None}])
    assert count(db) == 2


def test_run_repeats_what_the_database_asks_to_repeat(db: Database) -> None:
    tries = []

    def work(conn: object) -> str:
        tries.append(conn)
        if len(tries) < 3:
            raise OperationalError("", None, _deadlock(db))
        return "done"

    assert db.run(work) == "done"
    assert len(tries) == 3


def test_run_gives_up_after_its_retries(db: Database) -> None:
    def work(_conn: object) -> None:
        raise OperationalError("", None, _deadlock(db))

    with pytest.raises(StoreUnavailable, match="locked by another transaction"):
        db.run(work, retries=2)


def _deadlock(db: Database) -> Exception:
    if db.dialect == "sqlite":
        import sqlite3

        error = sqlite3.OperationalError("database is locked")
        error.sqlite_errorcode = sqlite3.SQLITE_BUSY
        return error
    import pymysql

    return pymysql.err.OperationalError(1213, "Deadlock found")


def test_two_real_transactions_that_deadlock_both_succeed(db: Database) -> None:
    with db.begin() as conn:
        conn.execute(insert(memory_user_settings), [row(1), row(2)])
    both = threading.Barrier(2, timeout=10)
    first_try = threading.local()
    touch = text("UPDATE memory_user_settings SET updated_at=updated_at WHERE user_id=:u")

    def work(order: tuple[int, int]) -> None:
        def steps(conn: Connection) -> None:
            for place, user in enumerate(order):
                conn.execute(touch, {"u": user})
                if place == 0 and db.skips_locked and not getattr(first_try, "over", False):
                    first_try.over = True
                    both.wait()

        db.run(steps)

    threads = [threading.Thread(target=work, args=(order,)) for order in ((1, 2), (2, 1))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()


def test_a_reader_does_not_wait_for_a_writer(db: Database) -> None:
    with db.begin() as conn:
        conn.execute(insert(memory_user_settings), [row(1)])
        assert count(db) == 0
    assert count(db) == 1


def test_times_come_back_aware_and_exact(db: Database) -> None:
    moment = dt.datetime(2026, 2, 3, 4, 5, 6, 789012, tzinfo=dt.timezone(dt.timedelta(hours=8)))
    with db.begin() as conn:
        conn.execute(insert(memory_user_settings), [row(1) | {"updated_at": moment}])
    with db.read() as conn:
        found = conn.execute(select(memory_user_settings.c.updated_at)).scalar_one()
    assert found == moment
    assert found.tzinfo is UTC


def test_durable_settings(any_url: str) -> None:
    db = Database.open(any_url)
    with db.read() as conn:
        if db.dialect == "sqlite":
            assert conn.execute(text("PRAGMA journal_mode")).scalar() == "wal"
            assert conn.execute(text("PRAGMA synchronous")).scalar() == 2
            assert conn.execute(text("PRAGMA foreign_keys")).scalar() == 1
        else:
            assert conn.execute(text("SELECT @@tx_isolation")).scalar() == "READ-COMMITTED"
            assert "STRICT_ALL_TABLES" in conn.execute(text("SELECT @@sql_mode")).scalar_one()
            assert conn.execute(text("SELECT @@character_set_connection")).scalar() == "utf8mb4"
    db.close()


def test_the_time_is_the_databases(any_url: str) -> None:
    db = Database.open(any_url)
    assert abs((db.now() - dt.datetime.now(UTC)).total_seconds()) < 5
    assert db.now() <= db.now()
    db.close()


def test_a_clock_that_is_set_back_does_not_move_the_leases_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = DatabaseClock(None)
    before = clock.now()

    class Jumped(dt.datetime):
        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> dt.datetime:  # type: ignore[override]
            return dt.datetime(2020, 1, 1, tzinfo=UTC)

    monkeypatch.setattr("smartmem.db.time.dt.datetime", Jumped)
    assert 0 <= (clock.now() - before).total_seconds() < 5


def test_a_servers_time_is_asked_again_after_a_while() -> None:
    answers = iter([START, START + dt.timedelta(hours=1)])
    clock = DatabaseClock(lambda: next(answers), resync_s=0)
    assert clock.now() == START
    assert clock.now() == START + dt.timedelta(hours=1)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("nonsense", "not a URL"),
        ("oracle://x", "known are sqlite"),
        ("sqlite://", "name a file"),
        ("sqlite:///:memory:", "name a file"),
        ("mysql+nosuchdriver://h/d", "mysql\\+pymysql"),
    ],
)
def test_urls_that_cannot_be_used_are_named(url: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        Database.open(url)


def test_a_missing_driver_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "pymysql", None)
    with pytest.raises(MissingExtra, match=r"pymysql.*smartmem\[mysql\]"):
        Database.open("mysql+pymysql://u:p@127.0.0.1/d")


def test_a_server_that_is_down_is_named_without_its_password() -> None:
    db = Database.open("mysql+pymysql://user:geheim@127.0.0.1:1/d")
    with pytest.raises(StoreUnavailable) as caught, db.begin():
        pass
    assert "geheim" not in str(caught.value)
    assert "127.0.0.1:1" in str(caught.value)
    assert "start the server" in str(caught.value)


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    db = Database.open(f"sqlite:///{tmp_path}/none/x.db")
    with pytest.raises(StoreUnavailable, match=r"none/x\.db"):
        db.migrate()


@pytest.mark.mariadb
def test_a_connection_goes_back_without_a_transaction(mariadb_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody ended is rolled back; what was committed is not asked about again."""
    db = Database.open(mariadb_url)
    db.migrate()
    raw = db.engine.raw_connection()
    raw.cursor().execute("INSERT INTO memory_user_settings VALUES (1,1,1,0,'2026-01-01')")
    used = raw.driver_connection
    raw.close()
    assert count(db) == 0
    sent: list[int] = []
    ask = type(used)._execute_command
    monkeypatch.setattr(type(used), "_execute_command", lambda self, *told: (sent.append(1), ask(self, *told))[1])
    with db.begin() as conn:
        conn.execute(insert(memory_user_settings), [row(2)])
    assert len(sent) == 2  # the statement and the commit
    assert count(db) == 1
    db.close()


def test_a_locked_file_is_told_from_a_broken_one(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import sqlite3

    monkeypatch.setattr("smartmem.db.connect.BUSY_S", 0.05)
    db = Database.open(sqlite_url)
    other = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="locked"), db.begin():
        pass
    with pytest.raises(StoreUnavailable, match="locked"):
        db.run(lambda conn: None, retries=2)
    other.close()
    with db.begin():
        pass
    db.close()


def test_a_transaction_within_a_transaction_is_refused_not_hung(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smartmem.db.connect.BUSY_S", 0.05)
    db = Database.open(sqlite_url)
    with db.begin(), pytest.raises(StoreUnavailable, match="never closed"), db.begin():
        pass
    db.close()


def test_a_connection_from_elsewhere_is_refused(sqlite_url: str) -> None:
    from sqlalchemy import create_engine

    engine = create_engine(sqlite_url)
    with engine.connect() as conn, pytest.raises(ConfigError, match=r"Database\.begin"):
        Database.of(conn)
    engine.dispose()


def test_an_unmigrated_database_says_what_to_do(tmp_path: Path) -> None:
    db = Database.open(f"sqlite:///{tmp_path}/new.db")
    with pytest.raises(StoreError, match="smartmem migrate"), db.begin():
        pass
    db.migrate()
    with db.begin():
        pass
    db.close()
