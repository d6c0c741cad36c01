"""The statements that are written as text say what was meant, whatever a value holds."""

from __future__ import annotations

import pytest
from sqlalchemy import event, select
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from smartmem.db import hot
from smartmem.db.engine import Database
from smartmem.db.tables import conversations
from smartmem.errors import StoreUnavailable
from tests.support.pipeline import START, rows

AWKWARD = [
    "it's", "''", "\\", "\\'", "ends in \\", '"', "%", "%s", "%(a)s", ":a", "?", "a--b", "a;b", "/*", "`", "\n", "\t",
    "x\x1f", "", " ", "NULL", "1", "1.0", "2026-01-01 00:00:00", "plain word_", "é", "１", "你好", "😀", "', (1)) -- ",
    "x" * 80, "x" * 81, "'" * 190,
]  # fmt: skip


def insert(db: Database, texts: list[str], **constants: object) -> None:
    stamp = hot.stamp(START)
    with db.begin() as conn:
        hot.insert_rows(
            conn,
            conversations,
            {"user_id": 1, "message_count": 0, "created_at": stamp, "updated_at": stamp} | constants,
            ("id", "title", "assistant_id", "last_message_at"),
            [(f"{n}", text, None, stamp) for n, text in enumerate(texts)],
        )


def test_every_text_comes_back_as_it_was(db: Database) -> None:
    insert(db, AWKWARD)
    found = {int(row.id): row for row in rows(db, conversations)}
    assert [found[n].title for n in range(len(AWKWARD))] == AWKWARD
    assert {row.assistant_id for row in found.values()} == {None}
    assert {row.last_message_at for row in found.values()} == {START}


def test_core_and_hot_statements_agree_on_every_text(db: Database) -> None:
    insert(db, AWKWARD)
    with db.read() as conn:
        for n, text in enumerate(AWKWARD):
            found = conn.execute(select(conversations.c.title).where(conversations.c.title == text)).scalars().all()
            assert text in found, text
            named = hot.fetch(conn, f"SELECT title FROM conversations WHERE id={hot.named(conn, 'n')}", {"n": f"{n}"})
            assert [row.title for row in named] == [text]


def test_many_long_rows_go_out_in_statements_that_a_server_takes(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hot, "MAX_BYTES", 10_000)
    statements: list[str] = []
    event.listen(db.engine, "before_cursor_execute", lambda *told: statements.append(told[2]))
    texts = ["😀'" * 100 for _ in range(40)]
    insert(db, texts)
    assert [row.title for row in rows(db, conversations)] == texts
    inserts = [statement for statement in statements if statement.startswith("INSERT")]
    assert len(inserts) == (1 if db.dialect == "sqlite" else 8)  # five rows of 1,600 bytes each


def test_a_constant_that_is_not_plain_is_bound_or_refused(db: Database) -> None:
    """MySQL's statements hold constants as text."""
    constants = {"title": "it's", "user_id": 1, "message_count": 0, "created_at": START, "updated_at": START}

    def put() -> None:
        with db.begin() as conn:
            hot.insert_rows(conn, conversations, constants, ("id",), [("1",)])

    if db.dialect == "sqlite":
        put()
        assert [row.title for row in rows(db, conversations)] == ["it's"]
    else:
        with pytest.raises(ValueError, match="bind it"):
            put()


@pytest.mark.parametrize("heard", [False, True])
def test_a_statement_is_part_of_its_transaction_and_its_errors_are_sqlalchemys(db: Database, heard: bool) -> None:
    """The same whether somebody listens to statements, which sends them through SQLAlchemy, or nobody does."""
    insert(db, ["tea"])
    listened: list[str] = []
    if heard:
        event.listen(db.engine, "before_cursor_execute", lambda *told: listened.append(told[2]))
    renamed = "UPDATE conversations SET title='coffee' WHERE id='0'"

    def work(conn: Connection) -> None:
        assert hot.run(conn, renamed, ()) == 1
        assert [row.title for row in hot.fetch(conn, "SELECT title FROM conversations", ())] == ["coffee"]
        hot.run(conn, "INSERT INTO conversations SELECT * FROM conversations", ())

    with pytest.raises(IntegrityError):
        db.run(work)
    assert [row.title for row in rows(db, conversations)] == ["tea"]
    assert (renamed in listened) is heard


def test_a_statement_begins_the_transaction_that_it_needs(db: Database) -> None:
    insert(db, ["tea"])
    with db.engine.connect() as conn:
        assert hot.run(conn, "UPDATE conversations SET title='coffee' WHERE id='0'", ()) == 1
    assert [row.title for row in rows(db, conversations)] == ["tea"]  # never committed


@pytest.mark.mariadb
def test_a_connection_that_is_lost_in_a_statement_is_replaced(mariadb_url: str) -> None:
    db = Database.open(mariadb_url)
    db.migrate()
    renamed = "UPDATE conversations SET title='coffee' WHERE id='0'"

    def work(conn: Connection) -> None:
        conn.connection.driver_connection._force_close()  # type: ignore[union-attr]
        hot.run(conn, renamed, ())

    with pytest.raises(StoreUnavailable):
        db.run(work)
    assert db.run(lambda conn: hot.run(conn, renamed, ())) == 0
    db.close()


@pytest.mark.parametrize("value", [None, "tea"])
def test_a_column_without_any_value_is_still_a_row(db: Database, value: str | None) -> None:
    stamp = hot.stamp(START)
    constants = {"id": "a", "user_id": 1, "title": "", "message_count": 0, "created_at": stamp, "updated_at": stamp}
    with db.begin() as conn:
        hot.insert_rows(conn, conversations, constants, ("assistant_id",), [(value,)])
    assert [row.assistant_id for row in rows(db, conversations)] == [value]


def test_neighbours_are_named_by_their_ends(db: Database) -> None:
    assert hot.ids_in([3, 1, 2]) == "BETWEEN 1 AND 3"
    assert hot.ids_in([1, 1, 3]) == "IN (1,3)"
    assert hot.ids_in([7]) == "BETWEEN 7 AND 7"
    with db.begin() as conn:
        assert hot.fetch(conn, f"SELECT id FROM memory_jobs WHERE id {hot.ids_in([])}", ()) == []
