"""What differs between the databases: insert-or-ignore, and what their errors mean."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Table
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.dml import Insert

MYSQL = ("mysql", "mariadb")

# deadlock, lock wait time-out, "record has changed since last read" (innodb_snapshot_isolation)
_MYSQL_RETRY = {1213, 1205, 1020}
# cannot connect, went away, lost, too many connections, shutting down, killed
_MYSQL_GONE = {2002, 2003, 2006, 2013, 2014, 2055, 1040, 1053, 1158, 1159, 1160, 1161, 1317, 1927, 4031}
_SQLITE_RETRY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_SQLITE_GONE = {
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_CORRUPT,
}
_SQLITE_NEXT = {
    sqlite3.SQLITE_CANTOPEN: "its folder must exist and be writable; correct database_url",
    sqlite3.SQLITE_FULL: "make room on the disk and run the command again: what was committed is kept",
    sqlite3.SQLITE_READONLY: "the file and its folder must be writable; nothing was written",
    sqlite3.SQLITE_NOTADB: "correct database_url, or move the file away",
    sqlite3.SQLITE_CORRUPT: "the file is damaged: restore it from a back-up",
}
_POSTGRES_RETRY = {"40001", "40P01", "55P03"}


def insert_ignore(table: Table, dialect: str) -> Insert:
    """An INSERT that leaves an existing row of the same key as it is, and hides no other error.

    MySQL's INSERT IGNORE would also turn a too long value or a missing column into a warning; an update that
    changes nothing does not.
    """
    if dialect in MYSQL:
        key = next(iter(table.primary_key.columns))
        return mysql.insert(table).on_duplicate_key_update({key.name: key})
    if dialect == "postgresql":
        return postgresql.insert(table).on_conflict_do_nothing()
    return sqlite.insert(table).on_conflict_do_nothing()


def upsert(table: Table, dialect: str, update: Mapping[str, str]) -> Insert:
    """An INSERT that, where the primary key exists, sets each column of `update` to the proposed row's column."""
    if dialect in MYSQL:
        on_mysql = mysql.insert(table)
        return on_mysql.on_duplicate_key_update({name: on_mysql.inserted[source] for name, source in update.items()})
    on_other: Any = postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)
    values = {name: on_other.excluded[source] for name, source in update.items()}
    done: Insert = on_other.on_conflict_do_update(index_elements=list(table.primary_key.columns), set_=values)
    return done


def is_retryable(error: DBAPIError) -> bool:
    """A deadlock, lock time-out or busy database: the same transaction may succeed when it is run again."""
    orig = error.orig
    if isinstance(orig, sqlite3.Error):
        return (getattr(orig, "sqlite_errorcode", 0) & 0xFF) in _SQLITE_RETRY  # the high bits say why it is busy
    if getattr(orig, "sqlstate", None) in _POSTGRES_RETRY:
        return True
    return _code(orig) in _MYSQL_RETRY


def is_unavailable(error: DBAPIError) -> bool:
    """The server or file cannot be reached, so nothing is wrong with the statement itself."""
    orig = error.orig
    if isinstance(orig, sqlite3.Error):
        return (getattr(orig, "sqlite_errorcode", 0) & 0xFF) in _SQLITE_GONE
    # SQLAlchemy knows most lost connections by itself. PyMySQL says InterfaceError(0, '') on a closed socket.
    return error.connection_invalidated or _code(orig) in _MYSQL_GONE or _code(orig) == 0


def what_to_do(error: DBAPIError) -> str:
    """The next step for somebody whose database `is_unavailable`."""
    code = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF
    return _SQLITE_NEXT.get(code, "start the server, or correct database_url, then try again")


def _code(orig: BaseException | None) -> int | None:
    code = orig.args[0] if orig is not None and orig.args else None
    return code if isinstance(code, int) else None
