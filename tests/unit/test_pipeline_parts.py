"""Small parts below the pipeline at their edges: the doorbell, hand-written inserts."""

from __future__ import annotations

import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import make_url

from smartmem.db import hot
from smartmem.db.dialects import insert_ignore
from smartmem.db.doorbell import Doorbell
from smartmem.db.engine import Database
from smartmem.db.tables import memory_user_settings
from tests.support.pipeline import START, rows


@pytest.fixture
def bell(tmp_path: Path) -> Iterator[Doorbell]:
    made = Doorbell(make_url(f"sqlite:///{tmp_path}/bell.db"))
    with tempfile.TemporaryDirectory(dir="/tmp") as short:  # a socket's path has at most 107 bytes
        made._folder = Path(short)
        yield made


def test_without_unix_sockets_the_poll_has_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delattr(socket, "AF_UNIX")
    bell = Doorbell(make_url(f"sqlite:///{tmp_path}/bell.db"))
    bell.ring()
    with bell.listen() as listener:
        assert not listener.wait(0.001)
        told = threading.Event()
        told.set()
        assert not listener._rang(60, told)  # a stop ends the wait


def test_a_folder_that_cannot_hold_a_socket_leaves_the_poll(bell: Doorbell, tmp_path: Path) -> None:
    bell._folder = tmp_path / "file" / "below"
    (tmp_path / "file").write_text("in the way")
    with bell.listen() as listener:
        bell.ring()
        assert not listener.wait(0.001)


def test_a_path_that_is_too_long_for_a_socket_leaves_the_poll(bell: Doorbell, tmp_path: Path) -> None:
    bell._folder = tmp_path / ("long" * 30)
    with bell.listen() as listener:
        assert not listener.wait(0.001)


def test_a_bell_that_nobody_empties_never_blocks_the_one_who_rings(bell: Doorbell) -> None:
    with bell.listen() as listener:
        for _ in range(2000):  # more than any socket's buffer holds
            bell.ring()
        assert listener.wait(5)
        assert not listener.wait(0.001), "two thousand rings are one"


def test_the_bell_of_a_dead_process_is_taken_down(bell: Doorbell) -> None:
    listener = bell.listen()
    assert listener._socket is not None
    assert listener._path is not None
    listener._socket.close()
    assert listener._path.exists()
    bell.ring()
    assert not listener._path.exists()


def test_hand_written_inserts_take_nothing_but_plain_constants(sqlite_url: str) -> None:
    db = Database.open(sqlite_url)
    constants = {"memory_enabled": 1, "implicit_memory_enabled": 1, "sensitive_memory_enabled": 0, "updated_at": START}
    with db.begin() as conn:
        hot.insert_rows(conn, memory_user_settings, constants, ["user_id"], [])
        hot.insert_rows(conn, memory_user_settings, constants, ["user_id"], [(1,), (2,)])
    with pytest.raises(ValueError, match="bind it"):
        hot._literal("a' OR 1=1")
    assert [row.user_id for row in rows(db, memory_user_settings)] == [1, 2]
    assert hot._literal(None) == "NULL"
    db.close()


def test_insert_ignore_in_postgresql_s_words() -> None:
    compiled = insert_ignore(memory_user_settings, "postgresql").compile(dialect=postgresql.dialect())
    assert "ON CONFLICT DO NOTHING" in str(compiled)
