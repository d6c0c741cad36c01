"""The few statements that run for every message, written as text.

SQLAlchemy Core binds, names and converts each value of each row by itself; measured, that was two thirds of the time
of a batch on SQLite and half of it on MariaDB. So the hot paths hand the driver whole statements: integers and fixed
words stand in the text, everything from outside is bound. All other statements stay in Core.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Table
from sqlalchemy.engine import Connection, CursorResult

from smartmem.clock import UTC, as_utc
from smartmem.db.dialects import MYSQL

_PLAIN = re.compile(r"[\w .:+-]*", re.ASCII)  # nothing that any driver or database could read as more than text
MAX_BYTES = 2_000_000  # of one statement; MySQL's and MariaDB's max_allowed_packet is 16 MB by default


class Raw(str):
    """An SQL expression, to stand in a statement as it is. Never made from what comes from outside."""

    __slots__ = ()


def stamp(moment: dt.datetime) -> str:
    """A time as `UtcDateTime` stores it, in the form that every database reads."""
    return as_utc(moment).replace(tzinfo=None).isoformat(" ", "microseconds")


def moment(value: str | dt.datetime) -> dt.datetime:
    """A time as a driver gives it back (SQLite: text), aware."""
    return (dt.datetime.fromisoformat(value) if isinstance(value, str) else value).replace(tzinfo=UTC)


def bound(value: Any) -> Any:
    """A value as drivers take it."""
    return stamp(value) if isinstance(value, dt.datetime) else value


def named(conn: Connection, name: str) -> str:
    """A named parameter in the driver's style."""
    return f":{name}" if conn.dialect.name == "sqlite" else f"%({name})s"


def id_list(ids: Iterable[int]) -> str:
    """Integers for `IN (…)`; NULL, which nothing equals, for none."""
    return ",".join(map(str, map(int, ids))) or "NULL"


def run(conn: Connection, statement: str, params: Mapping[str, Any]) -> CursorResult[Any]:
    """Execute a statement whose parameters are in the driver's style (`named`)."""
    return conn.exec_driver_sql(statement, {name: bound(value) for name, value in params.items()})


def insert_rows(
    conn: Connection,
    table: Table,
    constants: Mapping[str, Any],
    columns: Sequence[str],
    rows: Sequence[tuple[Any, ...]],
    *,
    conflict: str = "",
) -> None:
    """Insert rows that share `constants` and differ in `columns`; times in `rows` are already stamps.

    `conflict` is what follows VALUES (`ignoring`). On MySQL the rows go out as one statement, or several below
    MAX_BYTES; elsewhere as the driver's executemany.
    """
    if not rows:
        return
    mark = "?" if conn.dialect.name == "sqlite" else "%s"
    one = "(" + ",".join([mark] * len(columns) + [_literal(value) for value in constants.values()]) + ")"
    head = f"INSERT INTO {table.name} ({','.join([*columns, *constants])}) VALUES "  # noqa: S608 - names of our tables
    if conn.dialect.name not in MYSQL:
        conn.exec_driver_sql(f"{head}{one}{conflict}", list(rows))
        return
    part: list[Any] = []
    count = size = 0
    for row in rows:
        length = sum(len(value) for value in row if isinstance(value, str)) + 8 * len(row)
        if count and size + 4 * length > MAX_BYTES:
            conn.exec_driver_sql(head + ",".join([one] * count) + conflict, tuple(part))
            part, count, size = [], 0, 0
        part.extend(row)
        count += 1
        size += 4 * length  # a character has at most four bytes
    conn.exec_driver_sql(head + ",".join([one] * count) + conflict, tuple(part))


def ignoring(conn: Connection, table: Table) -> str:
    """The `conflict` of `insert_rows` that leaves existing rows as they are; see dialects.insert_ignore."""
    key = next(iter(table.primary_key.columns)).name
    return f" ON DUPLICATE KEY UPDATE {key}={key}" if conn.dialect.name in MYSQL else " ON CONFLICT DO NOTHING"


def proposed(conn: Connection, column: str) -> str:
    """The value of a column that an upsert proposed."""
    return f"VALUES({column})" if conn.dialect.name in MYSQL else f"excluded.{column}"


def _literal(value: Any) -> str:
    """A constant of ours as text: a number, a word, a stamp."""
    if value is None:
        return "NULL"
    if isinstance(value, int):
        return str(int(value))
    text = str(bound(value))
    if not _PLAIN.fullmatch(text):
        raise ValueError(f"{text!r} is no constant: bind it")
    return f"'{text}'"
