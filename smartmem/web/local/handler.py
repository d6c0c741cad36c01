"""What the local web answers: pages, and three search services in the shapes of their published APIs."""

from __future__ import annotations

import html
import json
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

if TYPE_CHECKING:
    from smartmem.web.local.server import LocalWeb

KEYS = {"TAVILY_API_KEY": "tvly-local-secret", "BRAVE_API_KEY": "brave-local-secret"}


def good_key(service: str) -> str:
    """What stands in the header that a service reads its key from; SearXNG wants none."""
    return {"tavily": f"Bearer {KEYS['TAVILY_API_KEY']}", "brave": KEYS["BRAVE_API_KEY"]}.get(service, "")


class LocalServer(ThreadingHTTPServer):
    """One thread a request; `web` is whose pages are served."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128  # of the usual 5, side-by-side fetches overflow it and connections fail at random
    web: LocalWeb

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client may hang up in the middle; nobody wants to read about it."""


class LocalHandler(BaseHTTPRequestHandler):
    """Pages by host and path; /tavily, /brave and /searxng answer as the services do. Tests derive faults from it."""

    server: LocalServer

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        web, parts = self.server.web, urlsplit(self.path)
        host = (self.headers["Host"] or "").split(":")[0]
        web.requests.append((host, self.path))
        query = {k: v[0] for k, v in parse_qs(parts.query).items()}
        if parts.path == "/brave/res/v1/web/search":
            self.service("brave", lambda: self._brave(query), self.headers["X-Subscription-Token"])
        elif parts.path == "/searxng/search":
            self.service("searxng", lambda: self._searxng(query), "")
        else:
            self.page(f"{host}{unquote(parts.path)}")

    def do_POST(self) -> None:
        web = self.server.web
        web.requests.append((self.headers["Host"], self.path))
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        web.bodies.append(body)
        self.service("tavily", lambda: self._tavily(body), self.headers["Authorization"])

    def page(self, id: str) -> None:
        """Send a page, or 404."""
        page = self.server.web.pages.get(id)
        if page is None:
            self.reply(404, b"<html><body><h1>404</h1></body></html>", "text/html")
            return
        # Half of the servers name the character set in the header, as in life; the others leave it to the page.
        declared = f"text/html; charset={page.charset}" if len(id) % 2 else "text/html"
        self.reply(200, page.html, declared)

    def reply(self, status: int, body: bytes, content_type: str, **headers: str) -> None:
        """Send a whole answer; underscores in header names become hyphens."""
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def reply_json(self, status: int, value: Any, **headers: str) -> None:
        """Send JSON."""
        self.reply(status, json.dumps(value).encode(), "application/json", **headers)

    def service(self, name: str, answer: Callable[[], Any], key: str | None) -> None:
        """Answer as the service does to whoever brings its key."""
        if key == good_key(name):
            self.reply_json(200, answer())
        else:
            self.reply_json(401, {"detail": {"error": "Unauthorized: missing or invalid API key."}})

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
