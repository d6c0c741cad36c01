"""Imports the program under test once, then forks a child for every crash point: milliseconds instead of seconds.

A process of its own, because forking the test process would copy its threads' locks (gRPC, ONNX Runtime, pytest).
Reads pickled requests from stdin and writes pickled answers to stdout, each behind its length; ends when stdin ends.
"""

import importlib
import mmap
import os
import pickle
import signal
import struct
import sys
import time
import traceback
from typing import IO, Any, NoReturn

from tests.support._crash_hook import CrashPoint, Hook

LENGTH = struct.Struct("<Q")
CRASHED = 137  # what a shell reports of a process ended by SIGKILL
RAISED = 1
ERROR_SIZE = 16_384


class Shared:
    """Memory that the child writes and the server reads after the child is gone, however it went."""

    HEAD = struct.Struct("<QQQQ")  # statements, commits, reached, length of the error

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, self.HEAD.size + ERROR_SIZE)

    def counts(self, statements: int, commits: int) -> None:
        struct.pack_into("<QQ", self._memory, 0, statements, commits)

    def reached(self) -> None:
        struct.pack_into("<Q", self._memory, 16, 1)

    def error(self, text: str) -> None:
        data = text.encode()[-ERROR_SIZE:]
        self._memory[self.HEAD.size : self.HEAD.size + len(data)] = data
        struct.pack_into("<Q", self._memory, 24, len(data))

    def read(self) -> tuple[int, int, bool, str]:
        statements, commits, reached, length = self.HEAD.unpack_from(self._memory)
        error = bytes(self._memory[self.HEAD.size : self.HEAD.size + length]).decode(errors="replace")
        self._memory.close()
        return statements, commits, bool(reached), error


def send(pipe: IO[bytes], value: Any) -> None:
    data = pickle.dumps(value)
    pipe.write(LENGTH.pack(len(data)) + data)
    pipe.flush()


def receive(pipe: IO[bytes]) -> Any:
    head = pipe.read(LENGTH.size)
    if len(head) < LENGTH.size:
        raise EOFError
    return pickle.loads(pipe.read(LENGTH.unpack(head)[0]))


def run(point: CrashPoint | None, target: str, args: tuple[Any, ...], seconds: float) -> tuple[Any, ...]:
    """Returns (exit status, timed out, statements, commits, reached, error)."""
    module, _, name = target.partition(":")
    function: Any = importlib.import_module(module)  # here, not in the child: imported once, shared by all
    for part in name.split("."):
        function = getattr(function, part)
    shared = Shared()
    child = os.fork()
    if child == 0:
        in_child(point, function, args, shared)
    status, timed_out = wait(child, seconds)
    return (status, timed_out, *shared.read())


def in_child(point: CrashPoint | None, function: Any, args: tuple[Any, ...], shared: Shared) -> NoReturn:
    """Leaves by os._exit at every end, as a crash does: no atexit handler, no flush, no rollback."""

    def crash() -> None:
        shared.reached()
        os._exit(CRASHED)

    status = RAISED
    try:
        with Hook(point, crash, shared.counts):
            function(*args)
        status = 0
    except BaseException:  # noqa: BLE001 - whatever it was, the parent gets its text
        shared.error(traceback.format_exc())
    finally:
        os._exit(status)


def wait(child: int, seconds: float) -> tuple[int, bool]:
    deadline = time.monotonic() + seconds
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status), False
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return -signal.SIGKILL, True
        time.sleep(0.001)


def main() -> None:
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what the program prints must not mix with the answers
    for module in sys.argv[1:]:
        importlib.import_module(module)
    while True:
        try:
            request = receive(requests)
        except EOFError:
            return
        try:
            answer: Any = run(*request)
        except Exception:  # noqa: BLE001 - an unknown module or function: the caller's mistake, told as text
            answer = traceback.format_exc()
        send(answers, answer)


if __name__ == "__main__":
    main()
