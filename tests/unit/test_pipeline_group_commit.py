"""Concurrent callers on SQLite share commits, and nothing else."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from sqlalchemy import event, insert
from sqlalchemy.engine import Connection

from smartmem.chat.history import append_message
from smartmem.db import group
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


def put(conn: Connection, users: Sequence[int]) -> Sequence[int]:
    """Write one row a user; 0 cannot be written."""
    conn.execute(insert(memory_user_settings), [settings_row(user) for user in users])
    if 0 in users:
        raise ZeroDivisionError
    return [10 * user for user in users]


group_seat = group.Seat


def seats(wait: Callable[[Any, float], bool]) -> Callable[..., group.Seat]:
    """Makes seats whose callers wait as `wait(lock, timeout)` does."""

    class Asleep:
        def __init__(self, lock: Any) -> None:
            self._lock = lock
            self.release = lock.release

        def acquire(self, *, timeout: float) -> bool:
            return wait(self._lock, timeout)

    def seat(*what: Any) -> group.Seat:
        made = group_seat(*what)
        made.asleep = Asleep(made.asleep)
        return made

    return seat


def queued(db: Database, count: int) -> None:
    """Return once so many callers wait for the writer's turn."""
    assert db._group is not None
    while len(db._group._waiting) < count:
        threading.Event().wait(0.001)


def together(db: Database, wanted: Sequence[tuple[Any, Sequence[int]]]) -> list[Any]:
    """Write in threads that all wait for the writer's turn, so that they form one group."""
    answers: list[Any] = [None] * len(wanted)

    def call(place: int) -> None:
        try:
            answers[place] = db.grouped(*wanted[place])
        except Exception as error:  # noqa: BLE001 - an answer like any other
            answers[place] = error

    threads = [threading.Thread(target=call, args=(place,)) for place in range(len(wanted))]
    with db.begin():
        for thread in threads:
            thread.start()
        queued(db, len(wanted))
    for thread in threads:
        thread.join(20)
    return answers


def test_what_waits_is_written_as_one_batch_and_each_gets_its_own_answers(commits: Any) -> None:
    db, seen = commits
    batches: list[int] = []

    def write(conn: Connection, users: Sequence[int]) -> Sequence[int]:
        batches.append(len(users))
        return put(conn, users)

    answers = together(db, [(write, [n, 100 + n]) for n in range(1, 9)])
    assert answers == [[10 * n, 1_000 + 10 * n] for n in range(1, 9)]
    assert len(rows(db, memory_user_settings)) == 16
    assert batches == [16]
    assert len(seen) == 2  # the one they all waited for, and theirs


def test_different_writes_share_the_commit_but_not_the_call(commits: Any) -> None:
    db, seen = commits

    def other(conn: Connection, users: Sequence[int]) -> Sequence[str]:
        put(conn, users)
        return [f"user {user}" for user in users]

    assert together(db, [(put, [1]), (other, [2]), (put, [3])]) == [[10], ["user 2"], [30]]
    assert len(seen) == 2


def test_a_failing_item_fails_its_own_caller_only(commits: Any) -> None:
    db, _ = commits
    answers = together(db, [(put, [7, 0]), (put, [1]), (put, [2])])
    assert isinstance(answers[0], ZeroDivisionError)
    assert answers[1:] == [[10], [20]]
    assert sorted(row.user_id for row in rows(db, memory_user_settings)) == [1, 2]


def test_a_failing_commit_is_everybodys_and_nothing_is_written_twice(commits: Any) -> None:
    db, _ = commits
    written: list[int] = []

    def write(conn: Connection, users: Sequence[int]) -> Sequence[int]:
        written.extend(users)
        return put(conn, users)

    def refuse(_conn: object) -> None:
        if written:
            raise RuntimeError("disk full")

    event.listen(db.engine, "commit", refuse)
    answers = together(db, [(write, [1]), (write, [2])])
    event.remove(db.engine, "commit", refuse)
    assert all(isinstance(answer, RuntimeError) for answer in answers)
    assert rows(db, memory_user_settings) == []
    assert sorted(written) == [1, 2]


def test_an_interrupted_leader_leaves_no_false_success(commits: Any) -> None:
    db, _ = commits

    def interrupted(_conn: Connection, _users: Sequence[int]) -> Sequence[int]:
        raise KeyboardInterrupt

    told: list[BaseException] = []

    def call() -> None:
        try:
            db.grouped(interrupted, [1])
        except BaseException as error:  # noqa: BLE001 - handed to the test's own thread
            told.append(error)

    threads = [threading.Thread(target=call) for _ in range(3)]
    with db.begin():
        for thread in threads:
            thread.start()
        queued(db, len(threads))
    for thread in threads:
        thread.join(20)
    assert sorted(type(error).__name__ for error in told) == ["KeyboardInterrupt", *["StoreUnavailable"] * 2]
    assert db.grouped(put, [5]) == [50]


def test_more_callers_than_one_transaction_takes_are_all_served(commits: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    db, seen = commits
    monkeypatch.setattr("smartmem.db.group.LARGEST", 3)
    assert together(db, [(put, [n]) for n in range(1, 9)]) == [[10 * n] for n in range(1, 9)]
    assert len(seen) == 4  # theirs: 3, 3 and 2


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
    monkeypatch.setattr("smartmem.db.connect.BUSY_S", 0.05)
    with db.begin(), pytest.raises(StoreUnavailable):
        db.grouped(put, [1])
    assert rows(db, memory_user_settings) == []
    assert db.grouped(put, [2]) == [20]


def test_a_leader_that_gives_up_hands_on(commits: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    db, _ = commits
    assert db._group is not None
    answers: list[Any] = []

    def give_up() -> None:
        with pytest.raises(StoreUnavailable, match="another thread has been writing"):
            db.grouped(put, [1])
        answers.append("gave up")

    second = threading.Thread(target=lambda: answers.append(db.grouped(put, [2])))
    with db.begin():
        monkeypatch.setattr("smartmem.db.connect.BUSY_S", 0.2)
        first = threading.Thread(target=give_up)
        first.start()
        queued(db, 1)
        monkeypatch.setattr("smartmem.db.connect.BUSY_S", 20)
        second.start()
        first.join(20)
    second.join(20)
    assert answers == ["gave up", [20]]
    assert [row.user_id for row in rows(db, memory_user_settings)] == [2]


def test_one_that_is_interrupted_while_it_waits_is_not_left_to_lead(
    commits: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    db, _ = commits

    def interrupted(asleep: Any, timeout: float) -> bool:
        """Ctrl-C at the worst moment: it has just been chosen to lead."""
        asleep.acquire(timeout=timeout)
        raise KeyboardInterrupt

    told: list[BaseException] = []

    def call() -> None:
        try:
            db.grouped(put, [2])
        except BaseException as error:  # noqa: BLE001 - handed to the test's own thread
            told.append(error)

    assert db._group is not None
    monkeypatch.setattr("smartmem.db.group.LARGEST", 1)
    leader, waiter = threading.Thread(target=db.grouped, args=(put, [1])), threading.Thread(target=call)
    with db.begin():
        leader.start()
        queued(db, 1)
        seat = db._group._waiting[0]
        monkeypatch.setattr(group, "Seat", seats(interrupted))
        waiter.start()
        queued(db, 2)
    leader.join(20)
    waiter.join(20)
    monkeypatch.setattr(group, "Seat", group_seat)
    assert seat.settled
    assert [type(error) for error in told] == [KeyboardInterrupt]
    assert db.grouped(put, [3]) == [30]
    assert sorted(row.user_id for row in rows(db, memory_user_settings)) == [1, 3]


@pytest.mark.parametrize("leader", ["waits", "writes", "is done"])
def test_one_whose_time_is_up_is_told_so_unless_it_has_its_answer(
    commits: Any, monkeypatch: pytest.MonkeyPatch, leader: str
) -> None:
    """What the leader has begun to write may still be written; what it has written is no failure."""
    db, _ = commits
    writing, told = threading.Event(), threading.Event()

    def slow(conn: Connection, users: Sequence[int]) -> Sequence[int]:
        writing.set()
        told.wait(20 if leader == "writes" else 0)
        return put(conn, users)

    def late(asleep: Any, timeout: float) -> bool:
        """Its time is up at just the moment that is looked at."""
        if leader == "writes":
            writing.wait(timeout)
        elif leader == "is done":
            asleep.acquire(timeout=timeout)
        return False

    answers: list[Any] = []

    def call() -> None:
        try:
            answers.append(db.grouped(slow, [2]))
        except StoreUnavailable as error:
            answers.append(str(error))
        told.set()

    assert db._group is not None
    first, second = threading.Thread(target=db.grouped, args=(slow, [1])), threading.Thread(target=call)
    with db.begin():
        first.start()
        queued(db, 1)
        monkeypatch.setattr(group, "Seat", seats(late))
        second.start()
        if leader != "waits":
            queued(db, 2)
        second.join(20 if leader == "waits" else 0)
    first.join(20)
    second.join(20)
    assert sorted(row.user_id for row in rows(db, memory_user_settings)) == ([1] if leader == "waits" else [1, 2])
    if leader == "is done":
        assert answers == [[20]]
    else:
        assert "another thread has been writing" in answers[0]
