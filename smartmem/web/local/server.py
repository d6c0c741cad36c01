"""A small web on loopback: the pages of data/web, and three search services over them."""

from __future__ import annotations

import datetime as dt
import threading
from pathlib import Path
from typing import Any, Self

from smartmem.clock import UTC, ManualClock
from smartmem.rag.protocols import Embedder
from smartmem.settings import WebFetchSettings, WebRagSettings, WebSearchSettings
from smartmem.web.fetch import WebFetcher
from smartmem.web.local.engine import Engine
from smartmem.web.local.handler import KEYS, LocalHandler, LocalServer
from smartmem.web.local.pages import data_folder, load_pages
from smartmem.web.local.questions import Question, load_questions
from smartmem.web.providers import make_providers
from smartmem.web.rag_search import WebRagSearch
from smartmem.web.search import WebSearch

LOOPBACK = "127.0.0.1"
TODAY = dt.datetime(2026, 8, 1, 9, 0, tzinfo=UTC)  # the day on which the questions are asked


class LocalWeb:
    """The server; a context manager. `today` is the day on which its questions are asked.

    Needs no network: `resolver` stands in for DNS and leads every `.test` name to one port of this machine, so that
    pages keep stable addresses such as http://qingyun-metro.test/fares/2026. Raises `ConfigError` outside a clone.
    """

    handler: type[LocalHandler] = LocalHandler

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or data_folder()
        self.pages = load_pages(self.root)
        self.engine = Engine(self.pages)
        self.requests: list[tuple[str, str]] = []  # (host, path with query), in the order of arrival
        self.bodies: list[Any] = []  # JSON bodies of POST requests
        self.widths = {"tavily": 320, "brave": 240, "searxng": 160}
        self.clock = ManualClock(TODAY)
        self.released = threading.Event()  # set at the end: ends every handler that stalls
        self._server = LocalServer((LOOPBACK, 0), self.handler)
        self._server.web = self
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def copies(self) -> dict[str, list[str]]:
        """Pages that carry another page's text, by that page."""
        found: dict[str, list[str]] = {}
        for page in self.pages.values():
            if page.copy_of:
                found.setdefault(page.copy_of, []).append(page.id)
        return found

    def questions(self) -> list[Question]:
        """The questions with their sources; what stands on a copy of a page counts as well."""
        return load_questions(self.root / "questions.jsonl", self.copies())

    def reset(self) -> None:
        """Empty the log."""
        self.requests.clear()
        self.bodies.clear()

    def resolver(self, host: str, port: int) -> list[tuple[str, int]]:
        """In place of DNS: `.test` names lead here at port 80, other names and ports to themselves."""
        if host.endswith(".test") and port == 80:
            return [(LOOPBACK, self.port)]
        if host.replace(".", "").isdigit() or ":" in host:
            return [(host, port)]
        raise OSError(f"no such host: {host}")

    def fetch_settings(self, **changes: Any) -> WebFetchSettings:
        """Settings under which the pages may be fetched."""
        return WebFetchSettings(**{"allow": (f"{LOOPBACK}:{self.port}",), "timeout_s": 5.0, **changes})

    def search_settings(self, *providers: str, **changes: Any) -> WebSearchSettings:
        """Settings that point the adapters here, at rates that slow nothing down."""
        base = f"http://{LOOPBACK}:{self.port}"
        values: dict[str, Any] = {
            "providers": providers or ("tavily", "brave", "searxng"),
            "tavily_url": f"{base}/tavily",
            "brave_url": f"{base}/brave",
            "searxng_url": f"{base}/searxng",
            "rate_per_s": {"tavily": 10_000, "brave": 10_000, "searxng": 10_000},
            "timeout_s": 5.0,
        }
        return WebSearchSettings(**{**values, **changes})

    def search(self, *providers: str, **changes: Any) -> WebSearch:
        """Stage 1 over these pages; `providers` in their order, all three unless named."""
        settings = self.search_settings(*providers, **changes)
        return WebSearch(settings, providers=make_providers(settings, clock=self.clock, env=KEYS), clock=self.clock)

    def fetcher(self, **changes: Any) -> WebFetcher:
        """Reads these pages, and refuses every other address of this machine."""
        return WebFetcher(self.fetch_settings(**changes), resolver=self.resolver, clock=self.clock)

    def rag(self, *providers: str, embedder: Embedder | None = None, **settings: Any) -> WebRagSearch:
        """Stage 2 over these pages; `settings` are those of `[web.rag]`."""
        return WebRagSearch(
            self.search(*providers), self.fetcher(), WebRagSettings(**settings), embedder=embedder, clock=self.clock
        )
