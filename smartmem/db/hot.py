"""The few statements that run for every message, written as text.

SQLAlchemy Core binds, names and converts each value of each row by itself; measured, that was two thirds of the time
of a batch on SQLite and half of it on MariaDB. So the hot paths hand the driver whole statements: integers and fixed
words stand in the text, everything from outside is bound. All other statements stay in Core.
"""

from __future__ import annotations

import datetime as dt
import re
from collections import namedtuple
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cache, lru_cache, partial
from itertools import repeat
from typing import Any

from sqlalchemy import Table
from sqlalchemy.engine import Connection

from smartmem.clock import UTC, as_utc
from smartmem.db.dialects import MYSQL
from smartmem.db.tables import PLACE_CHARS

_PLAIN = re.compile(r"[\w .:+-]*", re.ASCII)  # nothing that any driver or database could read as more than text
STAMP_CHARS = len("2026-01-31 09:00:00.000000")
PLAIN_CHARS = 80  # longer text is never plain, and not worth the look
_BOUND = "%s"  # a parameter, as MySQL's drivers write it
MAX_BYTES = 2_000_000  # of one statement; MySQL's and MariaDB's max_allowed_packet is 16 MB by default


class Raw(str):
    """An SQL expression, to stand in a statement as it is. Never made from what comes from outside."""

    __slots__ = ()


def stamp(moment: dt.datetime) -> str:
    """A time as `UtcDateTime` stores it, in the form that every database reads."""
    return as_utc(moment).isoformat(" ", "microseconds")[:STAMP_CHARS]  # without its "+00:00"


def moment(value: str | dt.datetime) -> dt.datetime:
    """A time as a driver gives it back (SQLite: text), aware."""
    return dt.datetime.fromisoformat(f"{value}+00:00") if isinstance(value, str) else value.replace(tzinfo=UTC)


def bound(value: Any) -> Any:
    """A value as drivers take it."""
    return stamp(value) if isinstance(value, dt.datetime) else value


def named(conn: Connection, name: str) -> str:
    """A named parameter in the driver's style."""
    return f":{name}" if conn.dialect.name == "sqlite" else f"%({name})s"


def ids_in(ids: Iterable[int]) -> str:
    """What follows `id` in a condition that it is one of these. Neighbours, as a batch often has, are named by their
    ends: shorter to write and to parse."""
    distinct = {int(id_) for id_ in ids}
    if not distinct:
        return "IN (NULL)"  # nothing equals NULL
    first, last = min(distinct), max(distinct)
    if last - first + 1 == len(distinct):
        return f"BETWEEN {first} AND {last}"
    return f"IN ({','.join(map(str, sorted(distinct)))})"


def marks(conn: Connection, values: Collection[Any]) -> str:
    """Parameters without names, for as many values. Drivers look up names one by one: not for long lists."""
    return ",".join(["?" if conn.dialect.name == "sqlite" else "%s"] * len(values))


def run(conn: Connection, statement: str, params: Mapping[str, Any] | Sequence[Any]) -> int:
    """Execute a statement whose parameters are in the driver's style (`named` or `marks`). Returns the rows changed."""
    cursor = _execute(conn, statement, _bound(params))
    changed: int = cursor.rowcount
    cursor.close()
    return changed


def fetch(conn: Connection, statement: str, params: Mapping[str, Any] | Sequence[Any]) -> list[Any]:
    """All rows of such a statement, as named tuples. SQLAlchemy's own rows raise and catch an error at each look at a
    column by its name: a sixth of what a relay and a worker did for an event (instructions, SQLite)."""
    cursor = _execute(conn, statement, _bound(params))
    make = partial(tuple.__new__, _record(tuple([column[0] for column in cursor.description])))
    rows = [make(row) for row in cursor.fetchall()]
    cursor.close()
    return rows


def _bound(params: Mapping[str, Any] | Sequence[Any]) -> Any:
    return {name: bound(value) for name, value in params.items()} if isinstance(params, Mapping) else tuple(params)


def begin(conn: Connection, statement: str) -> None:
    """Execute the statement that begins a transaction; for the listener that SQLAlchemy calls to have it done."""
    _execute(conn, statement, (), begins=True).close()


def _execute(conn: Connection, statement: str, params: Any, *, many: bool = False, begins: bool = False) -> Any:
    """The driver's cursor after a statement.

    The connection, its transaction and its errors are SQLAlchemy's. What it prepares and keeps for each statement is
    left out: that was a quarter of the instructions of one append (SQLite). Where somebody listens to statements (a
    tracer, the crash tests), or no transaction has begun, they go its way.
    """
    heard = conn.engine.dispatch  # the connection's own would look each name up in two places, at each statement
    if heard.before_cursor_execute or heard.after_cursor_execute or not (begins or conn.in_transaction()):
        return conn.exec_driver_sql(statement, params).context.cursor
    cursor = conn.connection.cursor()
    try:
        if many:
            cursor.executemany(statement, params)
        else:
            cursor.execute(statement, params)
    except BaseException as error:  # noqa: BLE001 - Ctrl-C too: a connection cut off in a statement is not used again
        conn._handle_dbapi_exception(error, statement, None, cursor, None)
    return cursor


@cache
def _record(columns: tuple[str, ...]) -> type[Any]:
    return namedtuple("Record", columns)


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
    given = _given(columns, rows)
    if conn.dialect.name not in MYSQL:
        _insert_bound(conn, table, constants, given, conflict)
        return
    head = f"INSERT INTO {table.name} ({','.join([*given, *constants])}) VALUES "  # noqa: S608 - names of our tables
    shared = "".join("," + _literal(value) for value in constants.values())
    written = [_in_text(values) for values in given.values()]
    to_bind = [place for place, column in enumerate(written) if _BOUND in column]
    texts: list[str] = []
    bindings: list[Any] = []
    size = 0
    for row, row_texts in zip(zip(*given.values(), strict=True), zip(*written, strict=True), strict=True):
        binds = [row[place] for place in to_bind if row_texts[place] is _BOUND]
        text = "(" + ",".join(row_texts) + shared + ")"
        # A character has at most four bytes, and an escaped one is two characters.
        length = len(text) + sum([8 * len(value) if isinstance(value, str) else 32 for value in binds])
        if texts and size + length > MAX_BYTES:
            _execute(conn, head + ",".join(texts) + conflict, tuple(bindings)).close()
            texts, bindings, size = [], [], 0
        texts.append(text)
        bindings += binds
        size += length
    _execute(conn, head + ",".join(texts) + conflict, tuple(bindings)).close()


def _given(columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
    """The rows as columns, without those that are NULL in all of them: a bound None goes through sqlite3's adapters."""
    all_ = dict(zip(columns, zip(*rows, strict=True), strict=True))
    given = {name: values for name, values in all_.items() if values.count(None) < len(values)}
    return given or all_


def _insert_bound(
    conn: Connection, table: Table, constants: Mapping[str, Any], given: Mapping[str, tuple[Any, ...]], conflict: str
) -> None:
    """`insert_rows` by executemany. Numbers and words stand in the text, which stays the same from batch to batch."""
    fixed: dict[str, Any] = {}
    varying: dict[str, Any] = {}
    for name, value in constants.items():
        (fixed if _is_fixed(value) else varying)[name] = value
    mark = "?" if conn.dialect.name == "sqlite" else "%s"
    statement = _insertion(table.name, (*given, *varying), tuple(fixed.items()), mark) + conflict
    same = [repeat(bound(value)) for value in varying.values()]
    _execute(conn, statement, list(zip(*given.values(), *same, strict=False)), many=True).close()


@lru_cache
def _insertion(table: str, columns: tuple[str, ...], fixed: tuple[tuple[str, Any], ...], mark: str) -> str:
    names = ",".join([*columns, *(name for name, _ in fixed)])
    values = ",".join([mark] * len(columns) + [_literal(value) for _, value in fixed])
    return f"INSERT INTO {table} ({names}) VALUES ({values})"  # noqa: S608 - names of our tables


def _is_fixed(value: Any) -> bool:
    return value is None or isinstance(value, int) or (isinstance(value, str) and value.isascii() and value.isalpha())


def _in_text(values: Sequence[Any]) -> list[str]:
    """A column's values as they stand in a statement: ids, numbers and plain words as they are, all else to be bound.

    PyMySQL escapes each parameter in Python, which was a third of a batch's time; most values of a row have nothing to
    escape. A column of one kind is looked at as a whole: a call for each value was a tenth of a batch's time.
    """
    kinds = set(map(type, values))
    if kinds == {int}:
        return list(map(str, values))
    if kinds == {str} and max(map(len, values)) <= PLAIN_CHARS and _PLAIN.fullmatch("".join(values)):
        return [f"'{value}'" for value in values]
    return [_value_in_text(value) for value in values]


def _value_in_text(value: Any) -> str:
    if value is None:
        return "NULL"
    kind = type(value)
    if kind is int:
        return str(value)
    return f"'{value}'" if kind is str and len(value) <= PLAIN_CHARS and _PLAIN.fullmatch(value) else _BOUND


def place(conn: Connection, mark: str = "") -> str | None:
    """What `lease_token` holds while a row waits: `mark`, and on MySQL the place of what a claim, or a relay that needs
    none, will write into the row. For a row that has grown InnoDB writes most of the page anew: 60 % of all that it
    logged for a message."""
    return mark.ljust(PLACE_CHARS, "-") if conn.dialect.name in MYSQL else mark or None


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
