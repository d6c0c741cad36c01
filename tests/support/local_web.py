"""A small web on loopback: the pages of data/web, three search services over them, and every fault that we test.

One port serves all hosts. `LocalWeb.resolver` stands in for DNS and leads every `.test` name to it, so that pages
keep stable addresses such as http://qingyun-metro.test/fares/2026 whatever the port is.
"""

from __future__ import annotations

import datetime as dt
import html
import json
import string
import threading
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

from smartmem.clock import UTC, ManualClock
from smartmem.rag.retrieve.analyse import Analyser
from smartmem.rag.retrieve.bm25 import Bm25Retriever
from smartmem.rag.types import Chunk, Query
from smartmem.settings import WebFetchSettings, WebSearchSettings
from tests.support import local_web_faults
from tests.support.net import LOOPBACK

DATA = Path(__file__).resolve().parents[2] / "data" / "web"
TODAY = dt.datetime(2026, 8, 1, 9, 0, tzinfo=UTC)  # the day on which the questions are asked
KEYS = {"TAVILY_API_KEY": "tvly-local-secret", "BRAVE_API_KEY": "brave-local-secret"}


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalPage:
    """One page: `id` is host and path, `paragraphs` its main text, `html` what is sent."""

    id: str
    host: str
    path: str
    title: str
    date: str
    charset: str
    paragraphs: tuple[str, ...]
    copy_of: str
    html: bytes

    @property
    def url(self) -> str:
        return f"http://{self.id}"


def load_pages(root: Path = DATA) -> dict[str, LocalPage]:
    """Every page by its id."""
    sites = tomllib.loads((root / "sites.toml").read_text("utf-8"))
    pages: dict[str, LocalPage] = {}
    for name, site in sites.items():
        frame = string.Template((root / "sites" / f"{site['template']}.html").read_text("utf-8"))
        for block in (root / "pages" / f"{name}.md").read_text("utf-8").split("\n%%%\n"):
            page = _page(block, site, frame)
            assert page.id not in pages, f"two pages at {page.id}"
            pages[page.id] = page
    return pages


def _page(block: str, site: dict[str, str], frame: string.Template) -> LocalPage:
    head, _, body = block.strip().partition("\n\n")
    fields = dict(line.split(": ", 1) for line in head.splitlines())
    charset = fields.get("charset", "utf-8")
    paragraphs = tuple(p.strip() for p in body.split("\n\n"))
    rendered = frame.substitute(
        title=html.escape(fields["title"]),
        name=site["name"],
        date=fields["date"],
        charset=charset,
        body="\n".join(_element(p) for p in paragraphs),
    )
    return LocalPage(
        id=f"{site['host']}{fields['path']}",
        host=site["host"],
        path=fields["path"],
        title=fields["title"],
        date=fields["date"],
        charset=charset,
        paragraphs=tuple(p for p in paragraphs if not p.startswith("## ")),
        copy_of=fields.get("copy_of", ""),
        html=rendered.encode(charset, "xmlcharrefreplace"),
    )


def _element(paragraph: str) -> str:
    if paragraph.startswith("## "):
        return f"<h2>{html.escape(paragraph[3:])}</h2>"
    return f"<p>{html.escape(paragraph, quote=False)}</p>"


class Engine:
    """What the three services share: BM25 over whole pages, and a snippet around the words of the query."""

    def __init__(self, pages: dict[str, LocalPage]) -> None:
        self._pages = pages
        self._index = Bm25Retriever()
        self._analyse = Analyser()
        self._cut: dict[tuple[str, int], tuple[str, int, dict[int, set[str]]]] = {}
        texts = {id: f"{p.title}\n" + "\n".join(p.paragraphs) for id, p in pages.items()}
        self._index.index([Chunk(id=i, document_id=i, start=0, end=len(t), text=t, order=0) for i, t in texts.items()])

    def search(
        self, query: str, k: int, *, sites: Sequence[str] = (), since: str = "", width: int = 160
    ) -> list[tuple[LocalPage, str, float]]:
        """Pages with snippet and score. `width` counts CJK characters twice, as result pages do."""
        found = []
        for hit in self._index.retrieve(Query(text=query), len(self._pages)):
            page = self._pages[hit.chunk.id]
            if sites and not any(page.host == s or page.host.endswith(f".{s}") for s in sites):
                continue
            if since and page.date < since:
                continue
            found.append((page, self._snippet(page, query, width), hit.score))
        return found[:k]

    def _snippet(self, page: LocalPage, query: str, width: int) -> str:
        text, size, windows = self._windows(page.id, width)
        terms = set(self._analyse(query))
        best = max(windows, key=lambda start: (len(terms & windows[start]), -start))
        cut = text[best : best + size]
        return ("… " if best else "") + cut + (" …" if best + size < len(text) else "")

    def _windows(self, id: str, width: int) -> tuple[str, int, dict[int, set[str]]]:
        """The page's text, the characters in a snippet, and the terms of every snippet that could be cut, by start."""
        if (id, width) not in self._cut:
            text = " ".join(self._pages[id].paragraphs)
            wide = sum(1 for c in text[:200] if ord(c) > 0x2E80) > 60
            size = width // 2 if wide else width
            starts = range(0, max(1, len(text) - size // 2), max(1, size // 8))
            self._cut[id, width] = text, size, {s: set(self._analyse(text[s : s + size])) for s in starts}
        return self._cut[id, width]


class LocalWeb:
    """The server. A context manager; `modes` says how each search service behaves (see `_Handler._service`)."""

    def __init__(self) -> None:
        self.pages = load_pages()
        self.engine = Engine(self.pages)
        self.modes: dict[str, str] = {}
        self.requests: list[tuple[str, str]] = []  # (host, path with query), in the order of arrival
        self.bodies: list[Any] = []  # JSON bodies of POST requests
        self.widths = {"tavily": 320, "brave": 240, "searxng": 160}
        self.clock = ManualClock(TODAY)
        self.released = threading.Event()  # set at the end: ends every handler that stalls
        self._server = _Server((LOOPBACK, 0), _Handler)
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

    def reset(self) -> None:
        """Back to well-behaved services and an empty log."""
        self.modes.clear()
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
        """Settings that point the adapters here, at rates that do not slow a test down."""
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


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128  # of the usual 5, side-by-side fetches overflow it and connections fail at random
    web: LocalWeb

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up in the middle is what several tests are about."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        web, parts = self.server.web, urlsplit(self.path)
        host = (self.headers["Host"] or "").split(":")[0]
        web.requests.append((host, self.path))
        query = {k: v[0] for k, v in parse_qs(parts.query).items()}
        if host == "faults.test":
            local_web_faults.serve(self, parts.path, query, web.released)
        elif parts.path == "/brave/res/v1/web/search":
            self._service("brave", lambda: self._brave(query), self.headers["X-Subscription-Token"])
        elif parts.path == "/searxng/search":
            self._service("searxng", lambda: self._searxng(query), "")
        else:
            self._page(f"{host}{unquote(parts.path)}")

    def do_POST(self) -> None:
        web = self.server.web
        web.requests.append((self.headers["Host"], self.path))
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        web.bodies.append(body)
        self._service("tavily", lambda: self._tavily(body), self.headers["Authorization"])

    def _page(self, id: str) -> None:
        page = self.server.web.pages.get(id)
        if page is None:
            self.reply(404, b"<html><body><h1>404</h1></body></html>", "text/html")
            return
        # Half of the servers name the character set in the header, as in life; the others leave it to the page.
        declared = f"text/html; charset={page.charset}" if len(id) % 2 else "text/html"
        self.reply(200, page.html, declared)

    def reply(self, status: int, body: bytes, content_type: str, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def reply_json(self, status: int, value: Any, **headers: str) -> None:
        self.reply(status, json.dumps(value).encode(), "application/json", **headers)

    def _service(self, name: str, answer: Any, key: str | None) -> None:
        """Answer as the service does when it is well, or in the mode that a test has set for it."""
        mode = self.server.web.modes.get(name, "ok")
        good = {"tavily": f"Bearer {KEYS['TAVILY_API_KEY']}", "brave": KEYS["BRAVE_API_KEY"]}.get(name, "")
        if mode == "ok" and key == good:
            self.reply_json(200, answer())
        elif mode in ("ok", "bad_key"):
            self.reply_json(*local_web_faults.BAD_KEY[name])
        elif mode == "down":
            self.close_connection = True  # the connection ends without an answer
        elif mode == "slow":
            self.server.web.released.wait(30)
        elif mode == "garbage":
            self.reply(200, b"<html>welcome to the captive portal</html>", "text/html")
        else:
            status, value, headers = local_web_faults.SERVICE_ERRORS[name, mode]
            self.reply_json(status, value, **headers)

    def _tavily(self, body: dict[str, Any]) -> dict[str, Any]:
        web = self.server.web
        found = web.engine.search(
            body["query"],
            body["max_results"],
            sites=body.get("include_domains", ()),
            since=body.get("start_date", ""),
            width=web.widths["tavily"],
        )
        rows = [{"url": p.url, "title": p.title, "content": s, "score": v, "raw_content": None} for p, s, v in found]
        return {"query": body["query"], "answer": None, "images": [], "results": rows, "response_time": 0.1}

    def _brave(self, query: dict[str, str]) -> dict[str, Any]:
        web = self.server.web
        words, sites = _sites(query["q"])
        since = query.get("freshness", "").partition("to")[0]
        found = web.engine.search(words, int(query["count"]), sites=sites, since=since, width=web.widths["brave"])
        rows = [
            {
                "url": p.url,
                "title": html.escape(p.title),
                "description": html.escape(s),
                "page_age": f"{p.date}T00:00:00",
            }
            for p, s, _ in found
        ]
        return {"type": "search", "query": {"original": words}, "web": {"type": "search", "results": rows}}

    def _searxng(self, query: dict[str, str]) -> dict[str, Any]:
        web = self.server.web
        words, sites = _sites(query["q"])
        found = web.engine.search(words, 20, sites=sites, width=web.widths["searxng"])
        rows = [
            {
                "url": p.url,
                "title": p.title,
                "content": s,
                "publishedDate": f"{p.date}T00:00:00",
                "engine": "local",
                "engines": ["local"],
                "score": v,
            }
            for p, s, v in found
        ]
        return {"query": words, "number_of_results": 0, "results": rows, "unresponsive_engines": []}


def _sites(text: str) -> tuple[str, list[str]]:
    words = text.replace("(", " ").replace(")", " ").split()
    sites = [w.removeprefix("site:") for w in words if w.startswith("site:")]
    return " ".join(w for w in words if not w.startswith("site:") and (w != "OR" or not sites)), sites
