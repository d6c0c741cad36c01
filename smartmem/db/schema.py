"""The schema's version: bring it up to date, and refuse one that this code does not know."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text
from sqlalchemy.engine import Connection

from smartmem.db.dialects import MYSQL
from smartmem.db.tables import metadata
from smartmem.errors import StoreError, StoreUnavailable

FOLDER = Path(__file__).parent / "migrations"
LOCK_S = 60


def config(conn: Connection | None = None) -> Config:
    """Alembic's configuration without a file: everything it needs is in the package."""
    made = Config()
    made.set_main_option("script_location", str(FOLDER))
    made.set_main_option("path_separator", "os")
    if conn is not None:
        made.attributes["connection"] = conn
    return made


def migrate(conn: Connection, url: str) -> None:
    """Upgrade to the newest version. Two processes that do so at once do it one after the other."""
    with _alone(conn, url):
        current = version(conn)
        if current is not None and current not in _known():
            raise StoreError(_newer(url, current))
        if current is None:
            _refuse_foreign(conn, url)
        if current != head():
            command.upgrade(config(conn), "head")
        conn.commit()


def is_empty(conn: Connection) -> bool:
    """Whether no migration has ever run here."""
    return version(conn) is None


def version(conn: Connection) -> str | None:
    """The schema's version in this database; None where no migration has ever run."""
    return MigrationContext.configure(conn).get_current_revision()


def check(conn: Connection, url: str) -> None:
    """Raise `StoreError` unless the schema is the one this code was written for."""
    current = version(conn)
    if current == head():
        return
    if current is None:
        raise StoreError(f"{url}: has no smartmem tables; run `smartmem migrate` (or Database.migrate())")
    if current in _known():
        raise StoreError(
            f"{url}: its schema is version {current}, this code needs {head()}; "
            "back it up, then run `smartmem migrate` (or Database.migrate())"
        )
    raise StoreError(_newer(url, current))


def head() -> str:
    """The version that this code was written for."""
    return _known()[0]


@functools.cache
def _known() -> list[str]:
    return [script.revision for script in ScriptDirectory.from_config(config()).walk_revisions()]


def _refuse_foreign(conn: Connection, url: str) -> None:
    """Refuse tables that are only ours by name. Ours without a version are what a migration left that was cut off."""
    there = inspect(conn)
    for name in sorted(set(there.get_table_names()) & set(metadata.tables)):
        missing = {column.name for column in metadata.tables[name].columns} - {
            c["name"] for c in there.get_columns(name)
        }
        if missing:
            raise StoreError(f"{url}: has a table {name} of another program; name another database")


def _newer(url: str, current: str) -> str:
    return f"{url}: its schema is version {current}, which this code ({head()}) does not know; install a newer smartmem"


@contextlib.contextmanager
def _alone(conn: Connection, url: str) -> Iterator[None]:
    """One migration at a time. SQLite's write transaction is lock enough, and holds the whole migration."""
    if conn.dialect.name not in MYSQL:
        conn.begin()
        yield
        return
    name = f"smartmem.migrate.{conn.engine.url.database}"[:64]
    if conn.execute(text("SELECT GET_LOCK(:name, :s)"), {"name": name, "s": LOCK_S}).scalar() != 1:
        raise StoreUnavailable(f"{url}: another process has been migrating it for {LOCK_S} s; try again later")
    try:
        yield
    finally:
        conn.execute(text("SELECT RELEASE_LOCK(:name)"), {"name": name})
        conn.commit()
