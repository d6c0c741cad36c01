"""Run a function in a child process that dies, as by kill -9, at one exact SQL statement or commit.

    with CrashRunner(preload=["smartmem.jobs"]) as crash:
        counts = crash.count_points(work, url)          # run to the end once: how many points are there?
        for point in crash_points(counts):
            prepare(fresh := new_database())
            result = crash.run_until(point, work, fresh)
            assert result.reached
            recover(fresh); check(fresh)

The target is a module-level function (or "module:function") that makes its own engine; arguments are pickled. One
point costs a fork, some 5 ms, plus the target's own time. `lost_acknowledgement` is the same for code under test in
this process: the database commits and the program gets an error.
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from sqlalchemy.exc import OperationalError

from tests.support._crash_hook import CrashPoint, Hook
from tests.support._crash_server import CRASHED, receive, send

__all__ = ["CRASHED", "CrashPoint", "CrashResult", "CrashRunner", "crash_points", "lost_acknowledgement", "raise_at"]

REPOSITORY = Path(__file__).parents[2]
Target = Callable[..., Any] | str


@dataclass(frozen=True, slots=True, kw_only=True)
class CrashResult:
    """exitcode: 137 crashed at the point · 0 ran to its end · 1 raised (`error` has the traceback) · -9 timed out."""

    exitcode: int
    reached: bool
    statements: int
    commits: int
    timed_out: bool
    error: str


class CrashServerFailed(RuntimeError):
    """The process that forks the children could not run the request; the message carries its traceback."""


class CrashRunner:
    """Owns the process that forks. `preload`: modules to import before the first fork; a target's own module is
    imported there too, so it must start no thread while it is imported."""

    def __init__(self, *, preload: Sequence[str] = (), seconds: float = 60.0) -> None:
        self._preload = list(preload)
        self._seconds = seconds
        self._server: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        path = os.pathsep.join([str(REPOSITORY), *filter(None, sys.path)])  # tests' own modules must be found there
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.support._crash_server", *self._preload],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        server, self._server = self._server, None
        if server is not None:
            _pipe(server.stdin).close()
            try:
                server.wait(self._seconds)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
            _pipe(server.stdout).close()

    def run_until(self, point: CrashPoint | None, target: Target, *args: Any) -> CrashResult:
        """Run `target(*args)` in a fresh child until `point`; with None, or a point never reached, to its end."""
        if self._server is None:
            raise CrashServerFailed("use the runner as a context manager: `with CrashRunner() as crash:`")
        try:
            send(_pipe(self._server.stdin), (point, _name(target), args, self._seconds))
            answer = receive(_pipe(self._server.stdout))
        except (EOFError, BrokenPipeError):
            status = self._server.wait()
            raise CrashServerFailed(f"the forking process ended with {status}; its error is above") from None
        if isinstance(answer, str):
            raise CrashServerFailed(answer)
        exitcode, timed_out, statements, commits, reached, error = answer
        return CrashResult(
            exitcode=exitcode,
            reached=reached,
            statements=statements,
            commits=commits,
            timed_out=timed_out,
            error=error,
        )

    def count_points(self, target: Target, *args: Any) -> CrashResult:
        """Run to the end and count. Raises when the target itself fails, for then the counts mean nothing."""
        result = self.run_until(None, target, *args)
        if result.exitcode:
            raise CrashServerFailed(f"{_name(target)} ended with {result.exitcode} by itself:\n{result.error}")
        return result


def crash_points(counts: CrashResult) -> Iterator[CrashPoint]:
    """Every point of a run: before and after each statement, before and after each commit."""
    for n in range(1, counts.statements + 1):
        yield CrashPoint("before", "statement", n)
        yield CrashPoint("after", "statement", n)
    for n in range(1, counts.commits + 1):
        yield CrashPoint("before", "commit", n)
        yield CrashPoint("after", "commit", n)


@contextlib.contextmanager
def raise_at(point: CrashPoint) -> Iterator[Hook]:
    """In this process: raise OperationalError at the point, once, as a lost connection would."""

    def lose() -> None:
        raise OperationalError(f"test: connection lost {point}", None, ConnectionResetError("lost"))

    with Hook(point, lose) as hook:
        yield hook


def lost_acknowledgement(n: int = 1) -> contextlib.AbstractContextManager[Hook]:
    """The n-th commit succeeds in the database and raises in the program."""
    return raise_at(CrashPoint("after", "commit", n))


def _name(target: Target) -> str:
    if isinstance(target, str):
        return target
    if "<" in target.__qualname__:
        raise ValueError(f"{target.__qualname__} lives inside a function; the child can only import module-level ones")
    return f"{target.__module__}:{target.__qualname__}"


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None, "the server is always started with both pipes"
    return pipe
