"""How pages and search services go wrong: the faults of tests/support/local_web.py, one name each."""

from __future__ import annotations

import gzip
import threading
import zlib
from typing import Any

_BAD = b"<html><body><p>" + bytes(range(0x80, 0x100)) * 40 + b"</p></body></html>"
_TEXT = "青河的水位在夜里涨了半米，码头上的人把船拴得更紧。渡轮停了一天，第二天又开了。"
_PAGE = f"<html><head><title>渡口</title></head><body><article><p>{_TEXT * 4}</p></article></body></html>"

# (status, JSON body) for a key that the service does not know, in the service's own shape.
BAD_KEY: dict[str, tuple[int, Any]] = {
    "tavily": (401, {"detail": {"error": "Unauthorized: missing or invalid API key."}}),
    "brave": (422, {"type": "ErrorResponse", "error": {"code": "SUBSCRIPTION_TOKEN_INVALID", "status": 422}}),
    "searxng": (403, {}),
}
_LIMITED = {"type": "ErrorResponse", "error": {"code": "RATE_LIMITED", "status": 429, "detail": "limit exceeded"}}
SERVICE_ERRORS: dict[tuple[str, str], tuple[int, Any, dict[str, str]]] = {
    ("tavily", "429"): (429, {"detail": {"error": "rate limit exceeded"}}, {"Retry_After": "7"}),
    ("tavily", "432"): (432, {"detail": {"error": "This request exceeds your plan's set usage limit."}}, {}),
    ("tavily", "433"): (433, {"detail": {"error": "This request exceeds the pay-as-you-go limit."}}, {}),
    ("tavily", "422"): (422, {"detail": [{"loc": ["body", "query"], "msg": "query is too long"}]}, {}),
    ("tavily", "plain"): (400, {"error": "topic is not supported"}, {}),
    ("tavily", "500"): (500, {"detail": {"error": "Internal Server Error"}}, {}),
    ("tavily", "echo"): (400, {"detail": {"error": "bad request with key tvly-local-secret"}}, {}),
    ("tavily", "empty"): (200, {"results": []}, {}),
    ("tavily", "odd"): (200, {"results": [None, 7, {"url": "javascript:alert(1)"}, {"title": "no url"}]}, {}),
    ("tavily", "redirect"): (302, {}, {"Location": "http://127.0.0.1:9/search"}),
    ("brave", "429"): (
        429,
        _LIMITED,
        {"X_RateLimit_Limit": "1, 2000", "X_RateLimit_Remaining": "0, 1985", "X_RateLimit_Reset": "2, 1419704"},
    ),
    ("brave", "quota"): (429, _LIMITED, {"X_RateLimit_Remaining": "1, 0", "X_RateLimit_Reset": "1, 86400"}),
    ("brave", "503"): (503, {}, {}),
    ("searxng", "429"): (429, {}, {}),
    ("searxng", "500"): (500, {}, {}),
    ("searxng", "silent"): (
        200,
        {"results": [], "unresponsive_engines": [["brave", "Suspended: too many requests"], ["qwant", "timeout"]]},
        {},
    ),
    ("searxng", "empty"): (200, {"results": [], "unresponsive_engines": []}, {}),
}


def serve(handler: Any, path: str, query: dict[str, str], released: threading.Event) -> None:
    """Answer http://faults.test/… on the given request handler."""
    name = path.strip("/")
    if name.isdigit():
        handler.reply(int(name), b"<h1>no</h1>", "text/html", **({"Retry_After": query["wait"]} if query else {}))
    elif name == "redirect":
        handler.reply(302, b"", "text/html", Location=query["to"])
    elif name == "loop":
        handler.reply(301, b"", "text/html", Location="http://faults.test/loop")
    elif name == "hang":
        released.wait(30)
    elif name in ("drip-header", "drip-body"):
        _drip(handler, name, released)
    elif name in ("big", "bomb", "double-bomb"):
        _flood(handler, name)
    elif name in _BODIES:
        body, content_type, headers = _BODIES[name]
        handler.reply(200, body, content_type, **headers)
    elif name == "declared":
        handler.send_response(200)
        handler.send_header("Content-Type", "text/html")
        handler.send_header("Content-Length", "52428800")
        handler.end_headers()
    else:
        handler.reply(404, b"", "text/html")


def _raw_deflate(data: bytes) -> bytes:
    engine = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return engine.compress(data) + engine.flush()


_GOOD = _PAGE.encode()
_BODIES: dict[str, tuple[bytes, str, dict[str, str]]] = {
    "gzip": (gzip.compress(_GOOD), "text/html; charset=utf-8", {"Content_Encoding": "gzip"}),
    "gzip-members": (gzip.compress(_GOOD[:90]) + gzip.compress(_GOOD[90:]), "text/html", {"Content_Encoding": "gzip"}),
    "gzip-padded": (gzip.compress(_GOOD) + b"\0" * 64, "text/html", {"Content_Encoding": "gzip"}),
    "deflate": (zlib.compress(_GOOD), "text/html", {"Content_Encoding": "deflate"}),
    "raw-deflate": (_raw_deflate(_GOOD), "text/html", {"Content_Encoding": "deflate"}),
    "not-gzip": (_GOOD, "text/html", {"Content_Encoding": "gzip"}),
    "brotli": (_GOOD, "text/html", {"Content_Encoding": "br"}),
    "gbk-undeclared": (_PAGE.encode("gbk"), "text/html", {}),
    "gbk-as-utf8": (_PAGE.encode("gbk"), "text/html; charset=utf-8", {}),
    "utf8-as-latin1": (_GOOD, "text/html; charset=iso-8859-1", {}),
    "utf16": (_PAGE.encode("utf-16"), "text/html", {}),
    "unknown-charset": (_GOOD, "text/html; charset=x-klingon", {}),
    "codec-trap": (_GOOD, "text/html; charset=zlib", {}),
    "one-bad-byte": (_GOOD.replace("第二天".encode(), b"\xff", 1), "text/html; charset=utf-8", {}),
    "broken-charset": (_BAD, "text/html; charset=utf-8", {}),
    "plain": (_TEXT.encode(), "text/plain; charset=utf-8", {}),
    "pdf": (b"%PDF-1.7", "application/pdf", {}),
    "json": (b"{}", "application/json", {}),
    "scripts-only": (b"<html><body><div id='root'></div><script>start()</script></body></html>", "text/html", {}),
    "empty": (b"", "text/html", {}),
    "deep": (b"<html><body>" + b"<div>" * 20_000 + _TEXT.encode() + b"</div>" * 20_000, "text/html; charset=utf-8", {}),
}


def _drip(handler: Any, name: str, released: threading.Event) -> None:
    """A byte now and then, for ever: no single read times out."""
    handler.send_response(200)
    handler.send_header("Content-Type", "text/html")
    if name == "drip-body":
        handler.end_headers()
    handler.flush_headers()
    while not released.wait(0.05):
        handler.wfile.write(b"a" if name == "drip-body" else b"X-Wait: a\r\n")


def _flood(handler: Any, name: str) -> None:
    """50 MB of page: plain, packed to 50 KB, or packed twice to less than 1 KB."""
    handler.send_response(200)
    handler.send_header("Content-Type", "text/html")
    piece = b"<p>flood</p>" * 5000
    if name == "big":
        handler.end_headers()
        for _ in range(50_000_000 // len(piece)):
            handler.wfile.write(piece)
        return
    packed = gzip.compress(b"\0" * 50_000_000, 6)
    handler.send_header("Content-Encoding", "gzip" if name == "bomb" else "gzip, gzip")
    handler.end_headers()
    handler.wfile.write(packed if name == "bomb" else gzip.compress(packed))
