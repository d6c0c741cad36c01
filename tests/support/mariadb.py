"""A private MariaDB server: own data folder, own socket, own loopback port, stopped by its own process id.

    with MariaDBServer() as server:
        engine = create_engine(server.create_database())

`python -m tests.support.mariadb` starts one by hand, prints a URL and stops on Ctrl-C.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support.net import LOOPBACK, free_port, poll

START_TRIES = 3  # a port may be taken between the moment it was found free and the server's bind
START_SECONDS = 30.0
STOP_SECONDS = 30.0


class MariaDBMissing(RuntimeError):
    """MariaDB's server programs are not on this machine."""


class MariaDBFailed(RuntimeError):
    """The server did not start, or did not stop; the message carries the end of its log."""


def find_program(name: str) -> str:
    """Debian puts mariadbd into /usr/sbin, which is not on an ordinary user's PATH."""
    found = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"]))
    if found is not None:
        return found
    if _is_root():
        who = "This process is root, so `make test` can install it by itself"
    else:
        who = "This process is not root, so ask an administrator or use sudo"
    raise MariaDBMissing(f"{name} not found. {who}: apt-get install mariadb-server")


def _is_root() -> bool:
    return os.geteuid() == 0


class MariaDBServer:
    """`start`, `stop`, `kill`, `restart` keep data and port; leaving the `with` block removes everything."""

    def __init__(self, *, folder: Path | None = None, options: tuple[str, ...] = ()) -> None:
        """`folder` takes the data folder (e.g. another disk for a benchmark); `options` go to mariadbd as they are."""
        self._parent = folder
        self._options = options
        self._home: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    # --- life ---------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        try:
            self._install()
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Start on the data that is there, on the port of the last start when there was one."""
        if self.running:
            return
        for _ in range(START_TRIES):
            self.port = self.port or free_port()
            self._process = self._spawn()
            if poll(self._answers_or_died, seconds=START_SECONDS) and self._alive():
                return
            self.kill()
            if "Address already in use" not in self._log_tail():
                break
            self.port = 0
        raise MariaDBFailed(f"mariadbd did not start within {START_SECONDS:g} s. Its log ends:\n{self._log_tail()}")

    def stop(self) -> None:
        """Shut down in order (SIGTERM): everything is flushed."""
        process = self._process
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise MariaDBFailed(f"mariadbd did not stop within {STOP_SECONDS:g} s:\n{self._log_tail()}") from None
        self._process = None

    def kill(self) -> None:
        """kill -9, as a crash of the server would be; `start` recovers from its log."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(STOP_SECONDS)
            self._process = None

    def restart(self, *, crash: bool = False) -> None:
        """Stop (in order, or with kill -9) and start again on the same port."""
        if crash:
            self.kill()
        else:
            self.stop()
        self.start()

    def close(self) -> None:
        """Kill the server and remove its folder: nothing in it is needed any more, so no orderly shutdown."""
        self.kill()
        if self._home is not None:
            shutil.rmtree(self._home)
            self._home = None

    @property
    def running(self) -> bool:
        return self._alive()

    @property
    def pid(self) -> int:
        if self._process is None:
            raise MariaDBFailed("the server is not running, so it has no process id")
        return self._process.pid

    # --- databases ----------------------------------------------------------------------------------------------

    def url(self, database: str = "") -> str:
        return f"mysql+pymysql://root@{LOOPBACK}:{self.port}/{database}?charset=utf8mb4"

    def create_database(self, prefix: str = "t") -> str:
        """A fresh empty database; returns its URL."""
        name = f"{prefix}_{uuid.uuid4().hex[:12]}"
        self.execute(f"CREATE DATABASE `{name}`")
        return self.url(name)

    def drop(self, url: str) -> None:
        """Drop the database that a URL of `create_database` names; no error when it is already gone."""
        name = url.rpartition("/")[2].partition("?")[0]
        self.execute(f"DROP DATABASE IF EXISTS `{name}`")

    @contextlib.contextmanager
    def database(self) -> Iterator[str]:
        """The URL of a fresh database that is dropped afterwards."""
        url = self.create_database()
        try:
            yield url
        finally:
            if self.running:  # a test may have killed the server on purpose
                self.drop(url)

    def execute(self, statement: str) -> list[tuple[Any, ...]]:
        """Run one statement as root, outside any database: for tests that set variables or look at process lists."""
        import pymysql  # an extra: importing this module must work without it

        with (
            contextlib.closing(pymysql.connect(host=LOOPBACK, port=self.port, user="root", charset="utf8mb4")) as link,
            link.cursor() as cursor,
        ):
            cursor.execute(statement)
            return [tuple(row) for row in cursor.fetchall()]

    # --- inside -------------------------------------------------------------------------------------------------

    @property
    def _folder(self) -> Path:
        if self._home is None:
            self._home = Path(tempfile.mkdtemp(prefix="smartmem-mariadb-", dir=self._parent))
        return self._home

    def _install(self) -> None:
        command = [
            find_program("mariadb-install-db"),
            "--no-defaults",  # this machine's /etc/mysql is none of our business; has to come first
            f"--datadir={self._folder / 'data'}",
            "--auth-root-authentication-method=normal",  # else root may only come through the socket
            "--skip-test-db",
            "--skip-name-resolve",
            *self._user(),
        ]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode:
            raise MariaDBFailed(f"mariadb-install-db ended with {done.returncode}:\n{done.stdout}{done.stderr}")

    def _spawn(self) -> subprocess.Popen[bytes]:
        command = [
            *_die_with_parent(),
            find_program("mariadbd"),
            "--no-defaults",
            f"--datadir={self._folder / 'data'}",
            "--socket=s.sock",  # in the data folder; a whole path could pass the 107 bytes that a socket may have
            f"--pid-file={self._folder / 'pid'}",
            f"--port={self.port}",
            f"--bind-address={LOOPBACK}",
            "--skip-name-resolve",
            "--character-set-server=utf8mb4",  # else an emoji is an error
            "--innodb-flush-log-at-trx-commit=1",  # an acknowledged commit survives kill -9
            "--innodb-fast-shutdown=1",
            *self._user(),
            *self._options,
        ]
        with self._log.open("wb") as log:
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    @staticmethod
    def _user() -> list[str]:
        return ["--user=root"] if _is_root() else []  # mariadbd refuses to run as root unless told so

    def _answers_or_died(self) -> bool:
        return not self._alive() or self._answers()

    def _alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _answers(self) -> bool:
        """The server speaks first: one byte of its greeting means that it takes logins."""
        try:
            with socket.create_connection((LOOPBACK, self.port), timeout=1) as link:
                return bool(link.recv(1))
        except OSError:
            return False

    @property
    def _log(self) -> Path:
        return self._folder / "mariadbd.log"

    def _log_tail(self) -> str:
        return self._log.read_text(errors="replace")[-3000:] if self._log.exists() else "(no log)"


def _die_with_parent() -> list[str]:
    """A killed test run must leave no server behind. The kernel ties this to the starting thread, so only the
    main thread, which lives as long as its process, may ask for it."""
    setpriv = shutil.which("setpriv")
    if setpriv is None or threading.current_thread() is not threading.main_thread():
        return []
    return [setpriv, "--pdeathsig", "KILL"]


def main() -> None:
    with MariaDBServer() as server:
        print(server.create_database("smartmem"), flush=True)
        signal.sigwait({signal.SIGINT, signal.SIGTERM})


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    main()
