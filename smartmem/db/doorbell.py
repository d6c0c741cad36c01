"""Wake-up across the processes of one machine: a hint that something was committed, never the truth.

Whoever waits has a datagram socket in a folder that the database's URL names; whoever commits new work sends one
byte to each of them. That costs some microseconds and no statement, so an idle system is quiet. On other machines,
or where there are no Unix sockets, the poll (`jobs.poll_s`) finds the work.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import tempfile
import threading
import time
from pathlib import Path

from sqlalchemy.engine import URL


class Doorbell:
    """The bells of one database on this machine."""

    def __init__(self, url: URL) -> None:
        self._supported = hasattr(socket, "AF_UNIX")
        # Resolved, so that two spellings of one file meet; the password is part of nobody's identity.
        name = (
            str(Path(url.database).resolve())
            if url.get_backend_name() == "sqlite" and url.database
            else (f"{url.host}:{url.port}/{url.database}")
        )
        digest = hashlib.sha256(name.encode()).hexdigest()[:16]
        # A socket's path has at most 107 bytes, so the folder of temporary files and short names.
        uid = os.getuid() if hasattr(os, "getuid") else 0
        self._folder = Path(tempfile.gettempdir()) / f"smartmem-{uid}" / digest

    def listen(self) -> Listener:
        """A place to wait; close it after use."""
        return Listener(self._folder if self._supported else None)

    def ring(self) -> None:
        """Wake all who listen. Never raises: a lost hint is found by the poll."""
        if not self._supported:
            return
        try:
            names = os.listdir(self._folder)
        except OSError:
            return  # nobody has ever listened
        if not names:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:  # some microseconds, and nothing to leak
            sender.setblocking(False)
            for name in names:
                self._send(sender, self._folder / name)

    def _send(self, sender: socket.socket, path: Path) -> None:
        try:
            sender.sendto(b"!", str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            with contextlib.suppress(OSError):  # its process is gone
                path.unlink()
        except OSError:
            pass  # a full buffer means that it is about to wake anyway


class Listener:
    """One waiter. `wait` returns at the first ring since the last `wait`, or after its time."""

    def __init__(self, folder: Path | None) -> None:
        self._socket: socket.socket | None = None
        self._path: Path | None = None
        if folder is None:
            return
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            path = folder / f"{os.getpid()}-{id(self):x}"
        except OSError:
            return  # no folder: the poll has to do
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            listener.bind(str(path))
        except OSError:
            listener.close()
            return  # its path is too long, or another's: the same
        self._socket, self._path = listener, path

    def wait(self, seconds: float, stop: threading.Event | None = None) -> bool:
        """Wait at most `seconds`, or until `stop` is set; True if the bell rang."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0 and not (stop is not None and stop.is_set()):
            # `stop` is looked at ten times a second: no statement, and a stop needs no second mechanism.
            if self._rang(min(left, 0.1), stop):
                return True
        return False

    def _rang(self, seconds: float, stop: threading.Event | None) -> bool:
        if self._socket is None:
            if stop is not None:
                stop.wait(seconds)
            else:
                time.sleep(seconds)
            return False
        self._socket.settimeout(seconds)  # not select(), which refuses descriptors from 1,024 on
        try:
            self._socket.recv(16)
        except TimeoutError:
            return False
        self._socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while self._socket.recv(16):  # a hundred rings are one
                pass
        return True

    def close(self) -> None:
        if self._socket is not None and self._path is not None:
            self._socket.close()
            with contextlib.suppress(OSError):
                self._path.unlink()
            self._socket = None

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()
