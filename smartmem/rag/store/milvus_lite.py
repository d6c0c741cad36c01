"""Opening and releasing Milvus Lite folders.

The Lite server runs in threads of this process and holds a lock on its folder until it is told to let go, which
closing a client does not do. So the users of each folder are counted here, and the last one releases it.
"""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any

from smartmem.errors import MissingExtra, StoreUnavailable

_users: dict[str, int] = {}
_lock = threading.Lock()


class _Unanswered(logging.Filter):
    """pymilvus asks for a time that the Lite server does not give and gets on without it; gRPC logs a traceback."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not (record.exc_info and isinstance(record.exc_info[1], NotImplementedError))


_unanswered = _Unanswered()


def acquire(path: Path) -> str:
    """Start the server of a folder, or join it; returns its address.

    Raises `StoreUnavailable` when another process has the folder, or when it cannot be opened.
    """
    manager = _manager()
    logging.getLogger("grpc._server").addFilter(_unanswered)  # adding it again changes nothing
    key = str(path.resolve())
    with _lock:
        with _Overheard() as overheard:
            address = manager.start_and_get_uri(key)
        if address is None:
            raise StoreUnavailable(_why(key, overheard.error))
        _users[key] = _users.get(key, 0) + 1
    return str(address)


def release(path: Path) -> None:
    """Leave the folder; the last one to leave stops the server and frees the lock."""
    key = str(path.resolve())
    with _lock:
        left = _users.get(key, 0) - 1
        if left > 0:
            _users[key] = left
            return
        _users.pop(key, None)
        _manager().release_server(key)


def _why(path: str, error: BaseException | None) -> str:
    if type(error).__name__ == "DataDirLockedError":
        return (
            f"Milvus Lite folder {path} is in use by another process: stop that process, choose another path, or serve "
            f"the folder to several with `milvus-lite server --data-dir {path}` and name its address as `uri`"
        )
    return f"Milvus Lite folder {path} cannot be opened: {error}; check its rights, or choose another path"


def _manager() -> Any:
    try:
        from milvus_lite.server_manager import server_manager_instance
    except ImportError:
        raise MissingExtra("milvus-lite", "milvus") from None
    return server_manager_instance


class _Overheard(logging.Handler):
    """Milvus Lite logs why it could not start, with a traceback, and returns None: take the reason, spare the user."""

    def __init__(self) -> None:
        super().__init__()
        self.error: BaseException | None = None
        self._logger = logging.getLogger("milvus_lite.server_manager")

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            self.error = record.exc_info[1]

    def __enter__(self) -> _Overheard:
        self._propagated = self._logger.propagate
        self._logger.propagate = False
        self._logger.addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._logger.removeHandler(self)
        self._logger.propagate = self._propagated
