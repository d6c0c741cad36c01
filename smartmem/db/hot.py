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
PLAIN_CHARS = 80  # longer text is never plain, and not worth the look
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
    MAX_BYTES; elsewhere as the driver's executemany, with everything bound: SQLite keeps a statement whose text it has
    seen, and reading a new one takes longer than a small write.
    """
    if not rows:
        return
    head = f"INSERT INTO {table.name} ({','.join([*columns, *constants])}) VALUES "  # noqa: S608 - names of our tables
    if conn.dialect.name not in MYSQL:
        mark = "?" if conn.dialect.name == "sqlite" else "%s"
        same = tuple(bound(value) for value in constants.values())
        marks = ",".join([mark] * (len(columns) + len(same)))
        conn.exec_driver_sql(f"{head}({marks}){conflict}", [row + same for row in rows])
        return
    shared = "".join("," + _literal(value) for value in constants.values())
    texts: list[str] = []
    given: list[Any] = []
    size = 0
    for row in rows:
        binds: list[Any] = []
        text = "(" + ",".join([_in_text(value, binds) for value in row]) + shared + ")"
        # A character has at most four bytes, and an escaped one is two characters.
        length = len(text) + sum([8 * len(value) if isinstance(value, str) else 32 for value in binds])
        if texts and size + length > MAX_BYTES:
            conn.exec_driver_sql(head + ",".join(texts) + conflict, tuple(given))
            texts, given, size = [], [], 0
        texts.append(text)
        given += binds
        size += length
    conn.exec_driver_sql(head + ",".join(texts) + conflict, tuple(given))


def _in_text(value: Any, binds: list[Any]) -> str:
    """A value as it stands in a statement: ids, numbers and plain words as they are, all else as a bound parameter.

    PyMySQL escapes each parameter in Python, which was a third of a batch's time; most values of a row have nothing to
    escape.
    """
    if value is None:
        return "NULL"
    kind = type(value)
    if kind is int:
        return str(value)
    if kind is str and len(value) <= PLAIN_CHARS and _PLAIN.fullmatch(value):
        return f"'{value}'"
    binds.append(value)
    return "%s"


def ignoring(conn: Connection, table: Table) -> str:
    """The `conflict` of `insert_rows` that leaves existing rows as they are; see dialects.insert_ignore."""
    key = next(iter(table.primary_key.columns)).name
    return f" ON DUPLICATE KEY UPDATE {key}={key}" if conn.dialect.name in MYSQL else " ON CONFLICT DO NOTHING"


def proposed(dialect: str, column: str) -> str:
    """The value of a column that an upsert proposed."""
    return f"VALUES({column})" if dialect in MYSQL else f"excluded.{column}"


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
