"""From a URL to a pool of connections, set up as the rest expects them: durable, strict, with real transactions."""

from __future__ import annotations

import sqlite3
import time
from typing import Any

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import URL, Connection, make_url
from sqlalchemy.exc import ArgumentError, DisconnectionError, NoSuchModuleError
from sqlalchemy.pool import ConnectionPoolEntry, PoolResetState, QueuePool

from smartmem.db import dialects, hot
from smartmem.errors import ConfigError, MissingExtra, needs

BUSY_S = 20.0  # how long a statement waits for a lock before it counts as failed
POOL = 64  # connections of one process
IDLE_CHECK_S = 1.0

# Execution options of connections: a write transaction, and none at all. Without either it is one for reading.
WRITE = "smartmem_write"
PLAIN = "smartmem_plain"


def read_url(url: str | URL) -> URL:
    """Any URL in its parts. Raises `ConfigError` for what is none."""
    try:
        return make_url(url)
    except ArgumentError:
        raise ConfigError(
            f"database_url {url!r} is not a URL; write e.g. sqlite:///smartmem.db or "
            "mysql+pymysql://user:password@host/database"
        ) from None


def parse_url(url: str | URL) -> URL:
    """The URL of a database that this code can use. Raises `ConfigError` for any other."""
    parsed = read_url(url)
    kind = parsed.get_backend_name()
    if kind not in ("sqlite", *dialects.MYSQL, "postgresql"):
        raise ConfigError(f"database_url names {kind!r}; known are sqlite, mysql+pymysql, postgresql")
    if kind == "sqlite" and (not parsed.database or parsed.database == ":memory:"):
        raise ConfigError("an SQLite database in memory cannot be shared by threads and processes: name a file")
    if kind in dialects.MYSQL and "charset" not in parsed.query:
        parsed = parsed.update_query_dict({"charset": "utf8mb4"})
    return parsed


def make_engine(url: URL) -> Engine:
    """A pool of connections; it connects on first use. Raises `MissingExtra` or `ConfigError` without the driver."""
    kind, by_pymysql = url.get_backend_name(), url.get_driver_name() == "pymysql"
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
        modes = "STRICT_ALL_TABLES" + (",NO_BACKSLASH_ESCAPES" if by_pymysql else "")
        init = f"SET SESSION sql_mode=CONCAT(@@sql_mode,',{modes}'), innodb_lock_wait_timeout={BUSY_S:.0f}"
        options["connect_args"] = {"init_command": init}
    if by_pymysql:
        options["pool_reset_on_return"] = None  # _end_transaction does what is left to do
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
        event.listen(engine, "checkin", _note_use)
        event.listen(engine, "checkout", _check_idle)
    if by_pymysql:
        event.listen(engine, "connect", _agree_on_backslashes)
        event.listen(engine, "reset", _end_transaction)
    return engine


def _sqlite_connect(dbapi: sqlite3.Connection, _entry: ConnectionPoolEntry) -> None:
    dbapi.isolation_level = None  # BEGIN is ours to write; the driver's own comes late and is never IMMEDIATE
    # 16 MB of cache a connection, for a process may have POOL of them: 64 were no faster, and were all that a worker's
    # memory grew by over 200,000 jobs. A checkpoint every 16 MB instead of every 4 writes hot pages once.
    pragmas = ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "temp_store=MEMORY")
    for pragma in (*pragmas, "cache_size=-16384", "wal_autocheckpoint=4000"):
        dbapi.execute(f"PRAGMA {pragma}")


def _agree_on_backslashes(dbapi: Any, _entry: ConnectionPoolEntry) -> None:
    """PyMySQL goes by the status that the server reports. A proxy may hide that; then both go back to escapes."""
    with needs("mysql"):
        from pymysql.constants import SERVER_STATUS

    if not dbapi.server_status & SERVER_STATUS.SERVER_STATUS_NO_BACKSLASH_ESCAPES:
        with dbapi.cursor() as cursor:
            cursor.execute("SET SESSION sql_mode=REPLACE(@@sql_mode,'NO_BACKSLASH_ESCAPES','')")


def _end_transaction(dbapi: Any, _entry: ConnectionPoolEntry, _state: PoolResetState) -> None:
    """Roll back what is open when a connection is returned. SQLAlchemy's pool does so blindly, after each commit too:
    one round trip of the four that the smallest transaction takes."""
    with needs("mysql"):
        from pymysql.constants import SERVER_STATUS

    if dbapi.server_status & SERVER_STATUS.SERVER_STATUS_IN_TRANS:
        dbapi.rollback()


def _sqlite_begin(conn: Connection) -> None:
    options = conn.get_execution_options()
    if not options.get(PLAIN):
        hot.begin(conn, "BEGIN IMMEDIATE" if options.get(WRITE) else "BEGIN")


def _note_use(_dbapi: Any, entry: ConnectionPoolEntry) -> None:
    entry.info["smartmem_used"] = time.monotonic()


def _check_idle(dbapi: Any, entry: ConnectionPoolEntry, _proxy: Any) -> None:
    """SQLAlchemy's pool_pre_ping, but only after a pause: a ping for each transaction costs a tenth of a short one.

    A connection that dies within a second of its last use is met as `StoreUnavailable` and replaced then.
    """
    if time.monotonic() - entry.info.get("smartmem_used", time.monotonic()) < IDLE_CHECK_S:
        return
    try:
        dbapi.cursor().execute("SELECT 1")
    except Exception as error:
        raise DisconnectionError(str(error)) from error
