"""A standalone Milvus server from the PyPI package `milvus` 2.3.5: a real server without a container.

    with MilvusServer() as server:
        client = MilvusClient(uri=server.uri)

Its Python package lives in a side environment under ~/.cache/smartmem-tests, made once. The server runs in a network
namespace of its own (tests/support/_milvus_child.py says why) and is reached through one loopback port.

`python -m tests.support.milvus_server` starts one by hand, prints its URI and stops on Ctrl-C.
"""

import fcntl
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from tests.support.net import LOOPBACK

REQUIREMENTS = Path(__file__).with_name("milvus-server.txt")
CHILD = Path(__file__).with_name("_milvus_child.py")
START_SECONDS = 180.0  # a restart waits for the sessions of the last run to expire
STOP_SECONDS = 30.0
NO_NAMESPACE = 3  # the child's exit status


class MilvusUnavailable(RuntimeError):
    """This machine cannot run the standalone Milvus server; the message says why and what would help."""


class MilvusFailed(RuntimeError):
    """The server was started and failed; the message carries the end of its log."""


def cache_folder() -> Path:
    root = os.environ.get("SMARTMEM_TEST_CACHE") or Path.home() / ".cache" / "smartmem-tests"
    return Path(root) / "milvus-2.3.5"


def install() -> Path:
    """Make the side environment unless it is there already; returns its folder. Safe from several processes."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise MilvusUnavailable(
            f"milvus 2.3.5 has its Linux server for x86_64 only; this is {sys.platform} {platform.machine()}"
        )
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # released with the file: two test processes install once
        ready = folder / "ready"
        if not ready.exists() or ready.read_text() != REQUIREMENTS.read_text():
            _install_into(folder)
            ready.write_text(REQUIREMENTS.read_text())
    return folder


def _install_into(folder: Path) -> None:
    environment = folder / "venv"
    venv.create(environment, clear=True, with_pip=True)
    python = str(environment / "bin" / "python")
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:"]
    _run([*pip, "-r", str(REQUIREMENTS)], "install the package milvus")
    # The server's programs are packed with LZMA: 4 s to unpack, so once here instead of at every start.
    unpack = "import sys, milvus; milvus._initialize_data_files(sys.argv[1])"
    _run([python, "-c", unpack, str(folder)], "unpack the server")


def _run(command: list[str], what: str) -> None:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise MilvusUnavailable(f"could not {what}:\n{(done.stdout + done.stderr)[-3000:]}")


class MilvusServer:
    """`start`, `stop`, `kill` and `restart` keep data and port; leaving the `with` block removes everything."""

    def __init__(self, *, folder: Path | None = None, session_ttl: int = 10) -> None:
        """`session_ttl`: seconds that a restart waits for the last run's sessions, about 2.5 times over. A server
        that gets no processor for as long as that ends itself, so go low (3) only where a test restarts."""
        self._parent = folder
        self._session_ttl = session_ttl
        self._home: Path | None = None
        self._child: subprocess.Popen[str] | None = None
        self._server_pid = 0
        self.port = 0

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def uri(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.poll() is None

    def start(self) -> None:
        """Start on the data that is there, on the port of the last start when there was one."""
        if self.running:
            return
        self._end_child()  # the last one may have died by itself
        cache = install()
        home = self._prepare_home(cache)
        with (home / "child.log").open("wb") as log:
            self._child = subprocess.Popen(
                [
                    str(cache / "venv" / "bin" / "python"),
                    *("-I", str(CHILD), str(home), str(self.port), str(self._session_ttl), str(START_SECONDS)),
                ],
                stdin=subprocess.PIPE,  # never written to: its closing tells the child that we are gone
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        answer = self._read_answer()
        if "error" in answer:
            status = self._end_child()
            error = str(answer["error"])
            if status == NO_NAMESPACE:
                raise MilvusUnavailable(error)
            raise MilvusFailed(f"{error}\n{self._log_tail()}")
        self.port, self._server_pid = int(str(answer["port"])), int(str(answer["pid"]))

    def stop(self) -> None:
        """End the server. Milvus 2.3.5 aborts on SIGTERM, so this is no gentler to it than `kill`."""
        self._end_child()

    def kill(self) -> None:
        """kill -9 of the server itself."""
        if self.running and self._server_pid:
            os.kill(self._server_pid, signal.SIGKILL)
        self._end_child()

    def restart(self) -> None:
        """Stop and start again on the same port and data; see `session_ttl` for how long that takes."""
        self.stop()
        self.start()

    def close(self) -> None:
        self._end_child()
        if self._home is not None:
            shutil.rmtree(self._home)
            self._home = None

    # --- inside -------------------------------------------------------------------------------------------------

    def _prepare_home(self, cache: Path) -> Path:
        if self._home is None:
            self._home = Path(tempfile.mkdtemp(prefix="smartmem-milvus-", dir=self._parent))
            (self._home / "bin").symlink_to(cache / "bin")
        return self._home

    def _read_answer(self) -> dict[str, object]:
        """The child itself keeps the deadline, so one line, or its end, always comes."""
        assert self._child is not None
        line = _pipe(self._child.stdout).readline()
        return dict(json.loads(line)) if line else {"error": "the server's child process ended without a word"}

    def _end_child(self) -> int:
        child, self._child, self._server_pid = self._child, None, 0
        if child is None:
            return 0
        _pipe(child.stdin).close()
        try:
            return child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()  # the server dies with it (PR_SET_PDEATHSIG)
            return child.wait(STOP_SECONDS)
        finally:
            _pipe(child.stdout).close()

    def _log_tail(self) -> str:
        assert self._home is not None
        logs = [self._home / "child.log", self._home / "logs" / "milvus.log"]
        return "\n".join(f"{log.name}: {log.read_text(errors='replace')[-2000:]}" for log in logs if log.exists())


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None, "the child is always started with both pipes"
    return pipe


def main() -> None:
    with MilvusServer() as server:
        print(server.uri, flush=True)
        signal.sigwait({signal.SIGINT, signal.SIGTERM})


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    main()
