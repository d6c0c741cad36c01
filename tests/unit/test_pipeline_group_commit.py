"""Concurrent callers on SQLite share commits, and nothing else."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from sqlalchemy import event, insert

from smartmem.chat.history import append_message
from smartmem.db.engine import Database
from smartmem.db.tables import chat_messages, memory_user_settings, outbox_messages
from smartmem.errors import StoreUnavailable
from tests.support.pipeline import START, rows


@pytest.fixture
def commits(sqlite_url: str) -> Any:
    db = Database.open(sqlite_url)
    seen: list[object] = []
    event.listen(db.engine, "commit", seen.append)
    yield db, seen
    db.close()


def settings_row(user_id: int) -> dict[str, object]:
    on = {"memory_enabled": True, "implicit_memory_enabled": True, "sensitive_memory_enabled": False}
    return {"user_id": user_id, "updated_at": START, **on}


def together(db: Database, works: list[Any]) -> list[Any]:
    """Run works in threads that all wait for the writer's turn, so that they form one group."""
    answers: list[Any] = [None] * len(works)

    def call(place: int) -> None:
        try:
            answers[place] = db.grouped(works[place])
        except Exception as error:  # noqa: BLE001 - an answer like any other
            answers[place] = error

    threads = [threading.Thread(target=call, args=(place,)) for place in range(len(works))]
    with db.begin():
        for thread in threads:
            thread.start()
        assert db._group is not None
        while len(db._group._waiting) < len(works):
            threading.Event().wait(0.001)
    for thread in threads:
        thread.join(20)
    return answers


def test_waiting_works_are_committed_together(commits: Any) -> None:
    db, seen = commits
    works = [lambda conn, n=n: conn.execute(insert(memory_user_settings), settings_row(n)) and n for n in range(1, 9)]
    assert together(db, works) == list(range(1, 9))
    assert len(rows(db, memory_user_settings)) == 8
    assert len(seen) == 2  # the one they all waited for, and theirs


def test_a_failing_work_undoes_only_itself(commits: Any) -> None:
    db, _ = commits

    def bad(conn: Any) -> None:
        conn.execute(insert(memory_user_settings), settings_row(7))
        raise ZeroDivisionError

    def good(conn: Any) -> int:
        conn.execute(insert(memory_user_settings), settings_row(1))
        return 1

    answers = together(db, [bad, good])
    assert isinstance(answers[0], ZeroDivisionError)
    assert answers[1] == 1
    assert [row.user_id for row in rows(db, memory_user_settings)] == [1]


def test_a_failing_commit_is_everybodys(commits: Any) -> None:
    db, _ = commits

    def refuse(_conn: object) -> None:
        if len(rows(db, memory_user_settings)) == 0 and armed:
            raise RuntimeError("disk full")

    armed: list[bool] = []
    event.listen(db.engine, "commit", refuse)
    works = [
        lambda conn, n=n: armed.append(True) or conn.execute(insert(memory_user_settings), settings_row(n))
        for n in (1, 2)
    ]
    answers = together(db, works)
    event.remove(db.engine, "commit", refuse)
    assert all(isinstance(answer, RuntimeError) for answer in answers)
    assert rows(db, memory_user_settings) == []


def test_concurrent_callers_lose_nothing(commits: Any) -> None:
    db, seen = commits
    errors: list[BaseException] = []

    def call(user: int) -> None:
        try:
            for n in range(25):
                append_message(
                    db, user_id=user, conversation_id=f"c{user}", role="user", content=f"{n}", occurred_at=START
                )
        except BaseException as error:  # noqa: BLE001 - handed to the test's own thread
            errors.append(error)

    threads = [threading.Thread(target=call, args=(user,)) for user in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    assert len(rows(db, chat_messages)) == len(rows(db, outbox_messages)) == 200
    for user in range(1, 9):
        mine = sorted(row.seq for row in rows(db, chat_messages) if row.user_id == user)
        assert mine == list(range(1, 26))
    assert len(seen) <= 200


def test_who_gives_up_waiting_leaves_nothing_behind(commits: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    db, _ = commits
    monkeypatch.setattr("smartmem.db.engine.BUSY_S", 0.05)
    with db.begin(), pytest.raises(StoreUnavailable):
        db.grouped(lambda conn: conn.execute(insert(memory_user_settings), settings_row(1)))
    assert db.grouped(lambda conn: "next") == "next"
    assert rows(db, memory_user_settings) == []
