"""The local web with everything that can go wrong: every fault that we test, by host or by mode."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

from smartmem.web import local
from smartmem.web.local import KEYS, TODAY, LocalHandler
from smartmem.web.local.handler import good_key
from tests.support import local_web_faults

__all__ = ["DATA", "KEYS", "TODAY", "LocalWeb"]

DATA = Path(__file__).resolve().parents[2] / "data" / "web"


class _Handler(LocalHandler):
    @property
    def web(self) -> LocalWeb:
        return cast(LocalWeb, self.server.web)

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        host = (self.headers["Host"] or "").split(":")[0]
        if host != "faults.test":
            super().do_GET()
            return
        self.web.requests.append((host, self.path))
        query = {k: v[0] for k, v in parse_qs(parts.query).items()}
        local_web_faults.serve(self, parts.path, query, self.web.released)

    def service(self, name: str, answer: Callable[[], Any], key: str | None) -> None:
        """Answer as the service does when it is well, or in the mode that a test has set for it."""
        mode = self.web.modes.get(name, "ok")
        if mode == "ok" and key == good_key(name):
            super().service(name, answer, key)
        elif mode in ("ok", "bad_key"):
            self.reply_json(*local_web_faults.BAD_KEY[name])
        elif mode == "down":
            self.close_connection = True  # the connection ends without an answer
        elif mode == "slow":
            self.web.released.wait(30)
        elif mode == "garbage":
            self.reply(200, b"<html>welcome to the captive portal</html>", "text/html")
        else:
            status, value, headers = local_web_faults.SERVICE_ERRORS[name, mode]
            self.reply_json(status, value, **headers)


class LocalWeb(local.LocalWeb):
    """`modes` says how each search service behaves (see `_Handler.service`); http://faults.test/… are pages' faults."""

    handler = _Handler

    def __init__(self) -> None:
        super().__init__(DATA)
        self.modes: dict[str, str] = {}

    def reset(self) -> None:
        """Back to well-behaved services and an empty log."""
        super().reset()
        self.modes.clear()
