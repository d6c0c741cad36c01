"""One door to the SQL store: connections, transactions, retries, the time, and the schema's version.

    db = Database.open("sqlite:///smartmem.db")
    db.migrate()
    with db.begin() as conn:      # a write transaction
        conn.execute(...)

SQLite runs in WAL mode with synchronous=FULL (a commit survives a power cut) and starts write transactions with
BEGIN IMMEDIATE: a transaction that reads first and writes later would else fail with SQLITE_BUSY, without waiting,
when another one wrote in between.

MySQL and MariaDB run at READ COMMITTED instead of their default REPEATABLE READ, for three reasons. Under the
default a range that FOR UPDATE reads locks the gaps too, so claims and inserts deadlock. Its snapshot dates from
the transaction's first read, so the check "has this key an earlier open row" after locking would look at the past.
And locks on rows that a WHERE rejects are kept until commit.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Self, TypeVar

from sqlalchemy import Engine, Table, text
from sqlalchemy.engine import URL, Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.sql.dml import Insert

from smartmem.clock import UTC, Clock
from smartmem.db import connect, dialects, schema
from smartmem.db.doorbell import Doorbell
from smartmem.db.group import Group, Item, Outcome, Write
from smartmem.db.time import DatabaseClock
from smartmem.errors import ConfigError, StoreUnavailable

T = TypeVar("T")

RETRIES = 8

_OWNER = "smartmem_database"
_RING = "smartmem_ring"


class Database:
    """The SQL store of one URL. Thread-safe; each process opens its own."""

    def __init__(self, engine: Engine, clock: Clock | None = None) -> None:
        # In place, and below on each connection: an engine made by `execution_options` asks itself and the one that it
        # was made from for listeners some forty times in a small transaction.
        engine.update_execution_options(**{_OWNER: self})
        self.engine = engine
        self.dialect = "mysql" if engine.dialect.name in dialects.MYSQL else engine.dialect.name
        self.clock: Clock = clock or DatabaseClock(None if self.dialect == "sqlite" else self._ask_time)
        self.bell = Doorbell(engine.url)
        # SQLite has one writer. Threads queue here, because SQLite's own wait is a sleep that lets others pass.
        self._one_writer = threading.Lock() if self.dialect == "sqlite" else None
        # Whoever has the turn writes through this connection. Taking one from the pool, telling it that it is to write
        # and giving it back was over a third of the smallest transaction (instructions).
        self._kept: Connection | None = None
        self._group = Group(self._turn, self._alone) if self.dialect == "sqlite" else None
        self._checked = False

    @classmethod
    def open(cls, url: str | URL, clock: Clock | None = None) -> Self:
        """Open `sqlite:///file`, `mysql+pymysql://…` or `postgresql+…://`; connects on first use.

        Raises `ConfigError` for a URL that cannot be used, `MissingExtra` without the driver.
        """
        return cls(connect.make_engine(connect.parse_url(url)), clock)

    @property
    def url(self) -> str:
        """The URL with its password hidden."""
        return self.engine.url.render_as_string(hide_password=True)

    @staticmethod
    def of(conn: Connection) -> Database:
        """The database that a connection belongs to. Raises `ConfigError` if it came from elsewhere."""
        owner = conn.get_execution_options().get(_OWNER)
        if not isinstance(owner, Database):
            raise ConfigError("this connection is not smartmem's: take it from Database.begin() or Database.read()")
        return owner

    # --- transactions -------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def begin(self) -> Iterator[Connection]:
        """A write transaction: commits at the end, rolls back on any error.

        Raises `StoreUnavailable` when the database cannot be reached or stays locked. If the connection is lost
        during the commit itself, nobody can know whether it took place: what callers write must be idempotent.
        """
        with self._translated():
            self._check_schema()
            with self._turn(), self._alone() as conn:
                yield conn

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection for reading. On SQLite all its statements see one state; elsewhere each sees the latest."""
        with self._translated():
            self._check_schema()
            with self.engine.connect() as conn:
                yield conn

    @contextlib.contextmanager
    def glance(self) -> Iterator[Connection]:
        """A connection for one cheap look, with no transaction around it: what an idle process asks over and over."""
        with self._translated():
            self._check_schema()
            with self.engine.connect().execution_options(**{connect.PLAIN: True}) as conn:
                yield conn

    def run(self, work: Callable[[Connection], T], *, retries: int = RETRIES) -> T:
        """Run `work` in a write transaction, again after a deadlock, lock time-out or busy database.

        `work` must bring no effects outside the transaction, for it may run several times.
        """
        with self._translated():
            self._check_schema()
            failures = 0
            while True:
                try:
                    with self._turn(), self._alone() as conn:
                        return work(conn)
                except DBAPIError as error:
                    failures += 1
                    if failures >= retries or not dialects.is_retryable(error):
                        raise
                # Random, so that two that met do not meet again; bounded: 5 ms to about 0.6 s.
                time.sleep(random.uniform(0.5, 1) * 0.005 * 2 ** (failures - 1))  # noqa: S311

    def grouped(self, write: Write[Item, Outcome], items: Sequence[Item]) -> Sequence[Outcome]:
        """Write a few items in a transaction that they may share with other threads' (group commit).

        `write(conn, items)` returns one outcome an item; on SQLite it may be given others' items before and behind
        these. Elsewhere this is `run`: the servers group their commits by themselves, and do not stand in line.
        """
        if self._group is None:
            return self.run(lambda conn: write(conn, items))
        with self._translated():
            self._check_schema()
            try:
                return self._group.write(write, items, connect.BUSY_S)
            except TimeoutError:
                raise self._held_up() from None

    @contextlib.contextmanager
    def _alone(self) -> Iterator[Connection]:
        """A write transaction, for whoever has the turn."""
        conn, self._kept = self._kept or self._to_write(), None
        whole = False
        try:
            with conn.begin():
                yield conn
            ring = conn.info.pop(_RING, False)
            whole = True
        finally:
            if whole and self._one_writer is not None:
                self._kept = conn
            else:
                conn.close()
        if ring:
            self.bell.ring()

    def _to_write(self) -> Connection:
        return self.engine.connect().execution_options(**{connect.WRITE: True})

    @contextlib.contextmanager
    def _turn(self, seconds: float | None = None) -> Iterator[None]:
        if self._one_writer is None:
            yield
            return
        if not self._one_writer.acquire(timeout=connect.BUSY_S if seconds is None else seconds):
            raise self._held_up()
        try:
            yield
        finally:
            self._one_writer.release()

    def _held_up(self) -> StoreUnavailable:
        return StoreUnavailable(
            f"{self.url}: another thread has been writing for {connect.BUSY_S:g} s; "
            "a transaction that is never closed holds up all others"
        )

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            if dialects.is_unavailable(error):
                what = "cannot be used" if self.dialect == "sqlite" else "cannot be reached"
                next_step = dialects.what_to_do(error)
                raise StoreUnavailable(f"{self.url}: {what} ({error.orig}); {next_step}") from error
            if dialects.is_retryable(error):
                raise StoreUnavailable(
                    f"{self.url}: is locked by another transaction ({error.orig}); try again later"
                ) from error
            raise
        except PoolTimeout as error:
            raise StoreUnavailable(
                f"{self.url}: all {connect.POOL} connections of this process are in use, for {connect.BUSY_S:g} s; "
                "use fewer threads, or close transactions sooner"
            ) from error

    def ring_after_commit(self, conn: Connection) -> None:
        """Wake relays and workers once this transaction is committed."""
        conn.info[_RING] = True

    # --- statements ---------------------------------------------------------------------------------------------

    def insert_ignore(self, table: Table) -> Insert:
        """An INSERT that leaves an existing row of the same key as it is, and hides no other error."""
        return dialects.insert_ignore(table, self.dialect)

    @property
    def skips_locked(self) -> bool:
        """Whether row locks with SKIP LOCKED exist; SQLite's only lock is the whole file."""
        return self.dialect != "sqlite"

    # --- time ---------------------------------------------------------------------------------------------------

    def now(self) -> dt.datetime:
        """The time by which leases are granted; see db/time.py."""
        return self.clock.now()

    def _ask_time(self) -> dt.datetime:
        question = "SELECT UTC_TIMESTAMP(6)" if self.dialect == "mysql" else "SELECT now() AT TIME ZONE 'utc'"
        with self._translated(), self.engine.connect() as conn:
            answer: dt.datetime = conn.execute(text(question)).scalar_one()
        return answer.replace(tzinfo=UTC)

    # --- schema -------------------------------------------------------------------------------------------------

    def migrate(self) -> None:
        """Bring the schema to the code's version, from an empty database or from any earlier one."""
        with self._translated(), self._turn(), self._to_write() as conn:
            schema.migrate(conn, self.url)
        self._checked = True

    def schema_version(self) -> str | None:
        """The schema's version in this database; None where there are no tables yet."""
        with self._translated(), self.engine.connect() as conn:
            return schema.version(conn)

    def migrate_if_empty(self) -> None:
        """Make the tables where there are none; raise `StoreError` for a schema that this code was not written for.

        An existing database is migrated on request only: its owner backs it up first.
        """
        with self._translated(), self.engine.connect() as conn:
            empty = schema.is_empty(conn)
        if empty:
            self.migrate()
        else:
            with self._translated():
                self._check_schema()

    def _check_schema(self) -> None:
        if not self._checked:
            with self.engine.connect() as conn:
                schema.check(conn, self.url)
            self._checked = True

    def close(self) -> None:
        """Close the connections. On SQLite the last one folds the write-ahead log into the file."""
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.close()
        self.engine.dispose()
