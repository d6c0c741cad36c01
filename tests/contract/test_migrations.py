"""The migrations give exactly the tables of tables.py, the same ones on every database."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from smartmem.db import schema
from smartmem.db.engine import Database
from smartmem.db.tables import chat_messages, conversations, metadata
from smartmem.errors import StoreError
from tests.support.mariadb import MariaDBServer
from tests.support.pipeline import START

CONVERSATION = {
    "id": "c", "user_id": 1, "title": "tea", "message_count": 1, "created_at": START, "updated_at": START,
}  # fmt: skip
MESSAGE = {
    "id": "m1", "conversation_id": "c", "user_id": 1, "seq": 1, "role": "user", "content": "tea", "occurred_at": START,
    "client_message_id": "k1", "trace_id": "t", "created_at": START,
}  # fmt: skip


@pytest.fixture(params=["sqlite", pytest.param("mariadb", marks=pytest.mark.mariadb)])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/test.db"
        return
    server: MariaDBServer = request.getfixturevalue("mariadb_server")
    with server.database() as url:
        yield url


def test_migrated_schema_is_that_of_the_tables(empty_url: str) -> None:
    db = Database.open(empty_url)
    db.migrate()
    with db.read() as conn:
        context = MigrationContext.configure(conn, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, metadata) == []
        found = sa.inspect(conn)
        assert set(found.get_table_names()) == {*metadata.tables, "alembic_version"}
        for table in metadata.tables.values():
            assert [c["name"] for c in found.get_columns(table.name)] == [c.name for c in table.columns]
            assert {c["name"]: c["nullable"] for c in found.get_columns(table.name)} == {
                c.name: c.nullable for c in table.columns
            }
    db.close()


def test_migrating_again_changes_nothing(empty_url: str) -> None:
    for _ in range(2):
        db = Database.open(empty_url)
        db.migrate()
        db.migrate()
        db.close()


def test_two_at_once_migrate_one_after_the_other(empty_url: str) -> None:
    errors: list[BaseException] = []

    def migrate() -> None:
        db = Database.open(empty_url)
        try:
            db.migrate()
            with db.begin():
                pass
        except BaseException as error:  # noqa: BLE001 - handed to the test's own thread
            errors.append(error)
        finally:
            db.close()

    threads = [threading.Thread(target=migrate) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []


def test_a_migration_that_was_cut_short_can_be_run_again(empty_url: str) -> None:
    """MySQL commits every DDL statement: after a crash some tables exist, and one lacks its indexes."""
    db = Database.open(empty_url)
    db.migrate()
    with db.begin() as conn:
        conn.execute(text("DROP TABLE memory_audit_logs"))
        conn.execute(text("DELETE FROM alembic_version"))
        conn.execute(text("DROP INDEX ix_memory_jobs_dead" + (" ON memory_jobs" if db.dialect == "mysql" else "")))
    db.close()
    db = Database.open(empty_url)
    db.migrate()
    with db.read() as conn:
        assert compare_metadata(MigrationContext.configure(conn), metadata) == []
    db.close()


def test_each_older_schema_is_brought_up_to_date(empty_url: str) -> None:
    db = Database.open(empty_url)
    with db.engine.connect() as conn:
        command.upgrade(schema.config(conn), "0001")
        conn.execute(sa.insert(conversations).values(CONVERSATION))
        conn.execute(sa.insert(chat_messages).values(MESSAGE))
        conn.commit()
    db.migrate()
    with db.read() as conn:
        assert compare_metadata(MigrationContext.configure(conn), metadata) == []
        kept = conn.execute(sa.select(chat_messages)).mappings().one()
        assert {name: kept[name] for name in MESSAGE} == MESSAGE
        if db.dialect == "sqlite":
            made = conn.execute(text("SELECT sql FROM sqlite_master WHERE name='ix_memory_jobs_due'")).scalar_one()
            assert made.endswith("WHERE due_at IS NOT NULL")
    with pytest.raises(IntegrityError), db.begin() as conn:  # a client's own id is unique in its conversation
        conn.execute(sa.insert(chat_messages).values(MESSAGE | {"id": "m2", "seq": 2}))
    with db.begin() as conn:
        without = {"client_message_id": None}
        conn.execute(sa.insert(chat_messages), [MESSAGE | without | {"id": f"m{n}", "seq": n} for n in (2, 3)])
    db.close()


def test_a_newer_schema_is_refused(empty_url: str) -> None:
    db = Database.open(empty_url)
    db.migrate()
    with db.begin() as conn:
        conn.execute(text("UPDATE alembic_version SET version_num='9999'"))
    db.close()
    db = Database.open(empty_url)
    with pytest.raises(StoreError, match=r"9999.*install a newer smartmem"), db.begin():
        pass
    with pytest.raises(StoreError, match="install a newer smartmem"):
        db.migrate()
    db.close()


def test_an_older_schema_says_how_to_upgrade(empty_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    db = Database.open(empty_url)
    db.migrate()
    db.close()
    schema_now = schema.head()
    monkeypatch.setattr(schema, "_known", lambda: ["9999", schema_now])
    db = Database.open(empty_url)
    with pytest.raises(StoreError, match=rf"version {schema_now}, this code needs 9999.*smartmem migrate"), db.begin():
        pass
    db.close()
