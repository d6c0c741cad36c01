"""Counts SQL statements and commits of every engine in this process, and acts at one of them.

Only public SQLAlchemy events, set on the class Engine, so that engines made before and after are covered alike.
There is no event after a commit, so the dialect's `do_commit` is wrapped when its first commit begins.
"""

import dataclasses
import threading
from collections.abc import Callable
from typing import Any, Literal, Self

from sqlalchemy import Engine, event

Kind = Literal["statement", "commit"]
When = Literal["before", "after"]


@dataclasses.dataclass(frozen=True, slots=True)
class CrashPoint:
    """Before or after the `n`-th (from 1) SQL statement or commit of the process.

    An executemany counts once: it is one call of the driver. BEGIN counts only where a program sends it as a
    statement. "after commit" means that the database has confirmed it and the program has not heard of it.
    """

    when: When
    kind: Kind
    n: int

    def __str__(self) -> str:
        return f"{self.when}-{self.kind}-{self.n}"


class Hook:
    """Calls `act` at `point`. `seen` hears (statements, commits) whenever a count goes up."""

    def __init__(
        self,
        point: CrashPoint | None,
        act: Callable[[], None],
        seen: Callable[[int, int], None] = lambda statements, commits: None,
    ) -> None:
        self._point = point
        self._act = act
        self._seen = seen
        self._counts = {"statement": 0, "commit": 0}
        self._lock = threading.Lock()
        self._wrapped: list[Any] = []

    def __enter__(self) -> Self:
        event.listen(Engine, "before_cursor_execute", self._before_statement)
        event.listen(Engine, "after_cursor_execute", self._after_statement)
        event.listen(Engine, "commit", self._before_commit)
        return self

    def __exit__(self, *_: object) -> None:
        event.remove(Engine, "before_cursor_execute", self._before_statement)
        event.remove(Engine, "after_cursor_execute", self._after_statement)
        event.remove(Engine, "commit", self._before_commit)
        for dialect in self._wrapped:
            del dialect.do_commit  # the instance's; the class's comes back into view
        self._wrapped.clear()

    def _before_statement(self, connection: Any, cursor: Any, statement: Any, *rest: Any) -> None:
        self._reach("before", "statement", self._count("statement"))

    def _after_statement(self, connection: Any, cursor: Any, statement: Any, *rest: Any) -> None:
        self._reach("after", "statement", self._counts["statement"])

    def _before_commit(self, connection: Any) -> None:
        n = self._count("commit")
        self._wrap(connection.dialect)
        self._reach("before", "commit", n)

    def _wrap(self, dialect: Any) -> None:
        with self._lock:
            if any(known is dialect for known in self._wrapped):
                return
            self._wrapped.append(dialect)
        original = dialect.do_commit

        def do_commit(dbapi_connection: Any) -> None:
            original(dbapi_connection)
            self._reach("after", "commit", self._counts["commit"])

        dialect.do_commit = do_commit

    def _count(self, kind: Kind) -> int:
        with self._lock:
            self._counts[kind] += 1
            self._seen(self._counts["statement"], self._counts["commit"])
            return self._counts[kind]

    def _reach(self, when: When, kind: Kind, n: int) -> None:
        if self._point == CrashPoint(when, kind, n):
            self._act()
