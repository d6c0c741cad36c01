"""Free loopback ports, and waiting with a deadline."""

import socket
import time
from collections.abc import Callable

LOOPBACK = "127.0.0.1"


def free_port() -> int:
    """A port that was free a moment ago. Another process may take it first, so callers retry a start that failed."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def poll(ready: Callable[[], bool], *, seconds: float, every: float = 0.01) -> bool:
    """Ask `ready` until it says yes; False when the deadline passes first."""
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            return False
        time.sleep(every)
    return True
