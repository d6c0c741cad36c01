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
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self, TypeVar

from sqlalchemy import Engine, Table, create_engine, event, text
from sqlalchemy.engine import URL, Connection, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, DisconnectionError, NoSuchModuleError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool
from sqlalchemy.sql.dml import Insert

from smartmem.clock import UTC, Clock
from smartmem.db import dialects, schema
from smartmem.db.doorbell import Doorbell
from smartmem.db.group import Group, Item, Outcome, Write
from smartmem.db.time import DatabaseClock
from smartmem.errors import ConfigError, MissingExtra, StoreUnavailable, needs

T = TypeVar("T")

BUSY_S = 20.0  # how long a statement waits for a lock before it counts as failed
RETRIES = 8
POOL = 64  # connections of one process
IDLE_CHECK_S = 1.0

_WRITE = "smartmem_write"
_PLAIN = "smartmem_plain"
_OWNER = "smartmem_database"
_RING = "smartmem_ring"


class Database:
    """The SQL store of one URL. Thread-safe; each process opens its own."""

    def __init__(self, engine: Engine, clock: Clock | None = None) -> None:
        self.engine = engine.execution_options(**{_OWNER: self})
        self._writer = self.engine.execution_options(**{_WRITE: True})
        self._glancer = self.engine.execution_options(**{_PLAIN: True})
        self.dialect = "mysql" if engine.dialect.name in dialects.MYSQL else engine.dialect.name
        self.clock: Clock = clock or DatabaseClock(None if self.dialect == "sqlite" else self._ask_time)
        self.bell = Doorbell(engine.url)
        # SQLite has one writer. Threads queue here, because SQLite's own wait is a sleep that lets others pass.
        self._one_writer = threading.Lock() if self.dialect == "sqlite" else None
        self._group = Group(self._turn, self._alone) if self.dialect == "sqlite" else None
        self._checked = False

    @classmethod
    def open(cls, url: str | URL, clock: Clock | None = None) -> Self:
        """Open `sqlite:///file`, `mysql+pymysql://…` or `postgresql+…://`; connects on first use.

        Raises `ConfigError` for a URL that cannot be used, `MissingExtra` without the driver.
        """
        return cls(_engine(_parse(url)), clock)

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
            with self._transaction() as conn:
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
            with self._glancer.connect() as conn:
                yield conn

    def run(self, work: Callable[[Connection], T], *, retries: int = RETRIES) -> T:
        """Run `work` in a write transaction, again after a deadlock, lock time-out or busy database.

        `work` must bring no effects outside the transaction, for it may run several times.
        """
        with self._translated():
            self._check_schema()
            for left in range(retries - 1, -1, -1):
                try:
                    with self._transaction() as conn:
                        return work(conn)
                except DBAPIError as error:
                    if not left or not dialects.is_retryable(error):
                        raise
                # Random, so that two that met do not meet again; bounded: 5 ms to about 0.6 s.
                time.sleep(random.uniform(0.5, 1) * 0.005 * 2 ** (retries - 1 - left))  # noqa: S311
            raise AssertionError("unreachable: the last failure is raised above")

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
                return self._group.write(write, items, BUSY_S)
            except TimeoutError:
                raise self._held_up() from None

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[Connection]:
        with self._turn(), self._alone() as conn:
            yield conn

    @contextlib.contextmanager
    def _alone(self) -> Iterator[Connection]:
        """A write transaction, for whoever has the turn."""
        with self._writer.connect() as conn:
            with conn.begin():
                yield conn
            ring = conn.info.pop(_RING, False)
        if ring:
            self.bell.ring()

    @contextlib.contextmanager
    def _turn(self, seconds: float | None = None) -> Iterator[None]:
        if self._one_writer is None:
            yield
            return
        if not self._one_writer.acquire(timeout=BUSY_S if seconds is None else seconds):
            raise self._held_up()
        try:
            yield
        finally:
            self._one_writer.release()

    def _held_up(self) -> StoreUnavailable:
        return StoreUnavailable(
            f"{self.url}: another thread has been writing for {BUSY_S:g} s; "
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
                f"{self.url}: all {POOL} connections of this process are in use, for {BUSY_S:g} s; "
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
        with self._translated(), self._turn(), self._writer.connect() as conn:
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
        """Close the pooled connections. On SQLite the last one folds the write-ahead log into the file."""
        self.engine.dispose()


def _parse(url: str | URL) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise ConfigError(
            f"database_url {url!r} is not a URL; write e.g. sqlite:///smartmem.db or "
            "mysql+pymysql://user:password@host/database"
        ) from None
    kind = parsed.get_backend_name()
    if kind not in ("sqlite", *dialects.MYSQL, "postgresql"):
        raise ConfigError(f"database_url names {kind!r}; known are sqlite, mysql+pymysql, postgresql")
    if kind == "sqlite" and (not parsed.database or parsed.database == ":memory:"):
        raise ConfigError("an SQLite database in memory cannot be shared by threads and processes: name a file")
    if kind in dialects.MYSQL and "charset" not in parsed.query:
        parsed = parsed.update_query_dict({"charset": "utf8mb4"})
    return parsed


def _engine(url: URL) -> Engine:
    kind = url.get_backend_name()
    # Payloads are JSON written and read as text; microseconds are kept by UtcDateTime.
    # Errors are logged and kept on rows (last_error): they must not carry a statement's parameters, which hold what
    # users said.
    options: dict[str, Any] = {"hide_parameters": True, "poolclass": QueuePool, "pool_timeout": BUSY_S}
    options |= {"pool_size": 8, "max_overflow": POOL - 8}
    if kind == "sqlite":
        options["connect_args"] = {"timeout": BUSY_S, "check_same_thread": False}
    else:
        options["isolation_level"] = "READ COMMITTED"
    if kind in dialects.MYSQL:
        # Without a strict mode a value that does not fit is cut in silence. 50 s for a lock is longer than a lease.
        # Without backslash escapes (standard SQL) PyMySQL only doubles single quotes; else it escapes each `"` of each
        # payload, in Python, which was a tenth of a batch's time.
        modes = "STRICT_ALL_TABLES" + (",NO_BACKSLASH_ESCAPES" if url.get_driver_name() == "pymysql" else "")
        init = f"SET SESSION sql_mode=CONCAT(@@sql_mode,',{modes}'), innodb_lock_wait_timeout={BUSY_S:.0f}"
        options["connect_args"] = {"init_command": init}
    try:
        engine = create_engine(url, **options)
    except ModuleNotFoundError as error:
        if kind in dialects.MYSQL:
            raise MissingExtra(error.name or "pymysql", "mysql") from None
        # Tried by nobody here, so no extra promises it.
        raise ConfigError(f"the driver of {url.drivername!r} is not installed: pip install {error.name}") from None
    except NoSuchModuleError as error:
        raise ConfigError(f"database_url {url.drivername!r}: {error}; write mysql+pymysql:// or sqlite:///") from None
    if kind == "sqlite":
        event.listen(engine, "connect", _sqlite_connect)
        event.listen(engine, "begin", _sqlite_begin)
    else:
        if engine.driver == "pymysql":
            event.listen(engine, "connect", _agree_on_backslashes)
        event.listen(engine, "checkin", _note_use)
        event.listen(engine, "checkout", _check_idle)
    return engine


def _sqlite_connect(dbapi: sqlite3.Connection, _entry: ConnectionPoolEntry) -> None:
    dbapi.isolation_level = None  # BEGIN is ours to write; the driver's own comes late and is never IMMEDIATE
    # 64 MB of cache keep the indexes in memory; a checkpoint every 16 MB instead of every 4 writes hot pages once.
    pragmas = ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "temp_store=MEMORY")
    for pragma in (*pragmas, "cache_size=-65536", "wal_autocheckpoint=4000"):
        dbapi.execute(f"PRAGMA {pragma}")


def _agree_on_backslashes(dbapi: Any, _entry: ConnectionPoolEntry) -> None:
    """PyMySQL goes by the status that the server reports. A proxy may hide that; then both go back to escapes."""
    with needs("mysql"):
        from pymysql.constants import SERVER_STATUS

    if not dbapi.server_status & SERVER_STATUS.SERVER_STATUS_NO_BACKSLASH_ESCAPES:
        with dbapi.cursor() as cursor:
            cursor.execute("SET SESSION sql_mode=REPLACE(@@sql_mode,'NO_BACKSLASH_ESCAPES','')")


def _sqlite_begin(conn: Connection) -> None:
    options = conn.get_execution_options()
    if not options.get(_PLAIN):
        conn.exec_driver_sql("BEGIN IMMEDIATE" if options.get(_WRITE) else "BEGIN")


def _note_use(_dbapi: Any, entry: ConnectionPoolEntry) -> None:
    entry.info["smartmem_used"] = time.monotonic()


def _check_idle(dbapi: Any, entry: ConnectionPoolEntry, _proxy: Any) -> None:
    """SQLAlchemy's pool_pre_ping, but only after a pause: a ping for each transaction costs a tenth of a short one.

    A connection that dies within a second of its last use is met as `StoreUnavailable` and replaced then.
    """
    if time.monotonic() - entry.info.get("smartmem_used", time.monotonic()) < IDLE_CHECK_S:
        return
    try:
        if hasattr(dbapi, "ping"):
            dbapi.ping(reconnect=False)
        else:
            dbapi.cursor().execute("SELECT 1")
    except Exception as error:
        raise DisconnectionError(str(error)) from error
