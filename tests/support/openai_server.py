"""A scripted local endpoint that speaks like OpenAI: chat completions, embeddings, and rerank (Cohere, Jina, TEI).

    with OpenAIServer() as server:
        server.chat.script(rate_limited(retry_after=0.01), prose({"facts": []}), ok({"facts": []}))
        client = OpenAI(base_url=server.base_url, api_key="test")
        ...
        assert [call.path for call in server.requests] == ["/v1/chat/completions"] * 3

Each endpoint takes the next reply of its script, one a call, and its `default` when the script is used up.
"""

import base64
import hashlib
import json
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from tests.support.net import LOOPBACK

JSON = Mapping[str, Any] | list[Any] | str
EMBEDDING_DIM = 8


# --- replies ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What one call gets. `content` fills the endpoint's usual envelope; `body` replaces the whole HTTP body.

    Left as None, the content is the endpoint's own: an empty JSON object for chat, hash vectors for embeddings, word
    overlap for rerank.
    """

    status: int = 200
    content: str | None = None
    body: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    finish_reason: str = "stop"
    cut_body: bool = False  # announce the whole length, send half of it, close
    drop: bool = False  # read the request, answer nothing, reset the connection


def _text(content: JSON) -> str:
    return content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)


def ok(content: JSON | None = None) -> Reply:
    return Reply(content=None if content is None else _text(content))


def slow(seconds: float, content: JSON | None = None) -> Reply:
    """Answers late; a client with a shorter time-out has gone by then. Closing the server ends the wait."""
    return Reply(content=None if content is None else _text(content), delay=seconds)


def error(status: int, message: str = "scripted error", **headers: str) -> Reply:
    body = json.dumps({"error": {"message": message, "type": "scripted", "code": str(status)}})
    return Reply(status=status, body=body, headers=headers)


def rate_limited(retry_after: float = 0.01) -> Reply:
    return error(429, "rate limit reached", **{"Retry-After": f"{retry_after:g}"})


def server_error(status: int = 500) -> Reply:
    return error(status)


def truncated(content: JSON) -> Reply:
    """The model ran out of tokens: valid HTTP, the JSON inside stops half-way."""
    text = _text(content)
    return Reply(content=text[: len(text) // 2], finish_reason="length")


def prose(content: JSON) -> Reply:
    """The model talks around its JSON."""
    return Reply(content=f"Sure! Here is the JSON you asked for:\n```json\n{_text(content)}\n```\nAnything else?")


def half_body(content: JSON | None = None) -> Reply:
    """The connection ends in the middle of the HTTP body."""
    return Reply(content=None if content is None else _text(content), cut_body=True)


def not_json() -> Reply:
    """A proxy's HTML page with status 200."""
    return Reply(body="<html><body>Bad gateway</body></html>", headers={"Content-Type": "text/html"})


def drop() -> Reply:
    return Reply(drop=True)


# --- what was asked -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    path: str
    headers: Mapping[str, str]  # names in lower case
    body: dict[str, Any]

    @property
    def prompt(self) -> str:
        """The text of all messages of a chat request, one after the other."""
        return "\n".join(str(message.get("content", "")) for message in self.body.get("messages", []))


class Endpoint:
    """One kind of call: its script, its default, and what it was asked."""

    def __init__(self, default: Reply | Callable[[Request], Reply]) -> None:
        self.default = default
        self.requests: list[Request] = []
        self._script: deque[Reply | Callable[[Request], Reply]] = deque()
        self._lock = threading.Lock()

    def script(self, *replies: Reply | Callable[[Request], Reply]) -> None:
        """Append replies; a function is called with the request, for answers that depend on it."""
        with self._lock:
            self._script.extend(replies)

    @property
    def left(self) -> int:
        """Replies that nobody has asked for yet: a test can say that its whole script was played."""
        return len(self._script)

    def next(self, request: Request) -> Reply:
        with self._lock:
            self.requests.append(request)
            reply = self._script.popleft() if self._script else self.default
        return reply if isinstance(reply, Reply) else reply(request)


# --- the server ---------------------------------------------------------------------------------------------------


class OpenAIServer:
    def __init__(self) -> None:
        self.chat = Endpoint(ok({}))
        self.embeddings = Endpoint(ok())
        self.rerank = Endpoint(ok())
        self.requests: list[Request] = []
        self._http: _HTTPServer | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._http = _HTTPServer(self)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,), name="openai-server")
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        http, thread = self._http, self._thread
        self._http = self._thread = None
        if http is not None and thread is not None:
            http.closing.set()
            http.shutdown()
            thread.join()
            http.close_connections()  # a client's pool keeps connections open, and their threads with them
            http.server_close()  # joins the handlers' threads

    @property
    def url(self) -> str:
        if self._http is None:
            raise RuntimeError("the server is not running: use it as a context manager")
        return f"http://{LOOPBACK}:{self._http.server_address[1]}"

    @property
    def base_url(self) -> str:
        """What an OpenAI client takes."""
        return f"{self.url}/v1"

    def endpoint(self, path: str) -> Endpoint | None:
        name = path.removeprefix("/v1").removeprefix("/v2")
        return {"/chat/completions": self.chat, "/embeddings": self.embeddings, "/rerank": self.rerank}.get(name)


class _HTTPServer(ThreadingHTTPServer):
    daemon_threads = False  # joined at the close, so that no thread outlives its test

    def __init__(self, owner: OpenAIServer) -> None:
        super().__init__((LOOPBACK, 0), _Handler)
        self.owner = owner
        self.closing = threading.Event()
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def close_connections(self) -> None:
        with self._lock:
            for connection in self._open:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue  # the client was faster

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away in mid-answer is what several replies are for; not worth a traceback."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _HTTPServer

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet: pytest shows what tests print."""

    def do_GET(self) -> None:
        if self.path == "/v1/models":
            self._send(200, json.dumps({"object": "list", "data": [{"id": "scripted", "object": "model"}]}))
        else:
            self._send_reply(error(404, f"no such path: {self.path}"), "")

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        endpoint = self.server.owner.endpoint(self.path)
        if endpoint is None:
            self._send_reply(error(404, f"no such path: {self.path}"), "")
            return
        try:
            body = json.loads(raw)
        except ValueError:
            self._send_reply(error(400, "the request's body is not JSON"), "")
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(path=self.path, headers=headers, body=body)
        self.server.owner.requests.append(request)
        reply = endpoint.next(request)
        if self.server.closing.wait(reply.delay) or reply.drop:
            self._reset()
            return
        self._send_reply(reply, _envelope(self.path, body, reply))

    def _send_reply(self, reply: Reply, enveloped: str) -> None:
        text = reply.body if reply.body is not None else enveloped
        self._send(reply.status, text, reply.headers, cut=reply.cut_body)

    def _send(self, status: int, text: str, headers: Mapping[str, str] | None = None, *, cut: bool = False) -> None:
        data = text.encode()
        fields = {"Content-Type": "application/json", "Content-Length": str(len(data)), **(headers or {})}
        self.send_response(status)
        for name, value in fields.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if cut else data)
        if cut:
            self.close_connection = True

    def _reset(self) -> None:
        """Close so that the client sees a reset connection, not an empty answer."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True


# --- envelopes ----------------------------------------------------------------------------------------------------


def _envelope(path: str, body: dict[str, Any], reply: Reply) -> str:
    if path.endswith("/chat/completions"):
        return json.dumps(_chat(body, reply), ensure_ascii=False)
    if reply.content is not None:
        return reply.content
    return json.dumps(_embeddings(body) if path.endswith("/embeddings") else _rerank(body))


def _chat(body: dict[str, Any], reply: Reply) -> dict[str, Any]:
    content = reply.content if reply.content is not None else "{}"
    asked = sum(len(str(message.get("content", ""))) for message in body.get("messages", []))
    return {
        "id": "chatcmpl-scripted",
        "object": "chat.completion",
        "created": 0,
        "model": body.get("model", "scripted"),
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": content, "refusal": None},
                "finish_reason": reply.finish_reason,
                "logprobs": None,
            }
        ],
        # Characters, not tokens: enough for a test that costs are counted.
        "usage": {"prompt_tokens": asked, "completion_tokens": len(content), "total_tokens": asked + len(content)},
    }


def embedding_of(text: str) -> list[float]:
    """A deterministic vector without meaning: the same text always gives the same one."""
    digest = hashlib.sha256(text.encode()).digest()
    return [byte / 255 - 0.5 for byte in digest[:EMBEDDING_DIM]]


def _embeddings(body: dict[str, Any]) -> dict[str, Any]:
    texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
    vectors = [embedding_of(str(text)) for text in texts]
    packed = body.get("encoding_format") == "base64"  # what OpenAI's own client asks for unless told otherwise
    return {
        "object": "list",
        "model": body.get("model", "scripted"),
        "data": [
            {"object": "embedding", "index": index, "embedding": _base64(vector) if packed else vector}
            for index, vector in enumerate(vectors)
        ],
        "usage": {"prompt_tokens": sum(map(len, texts)), "total_tokens": sum(map(len, texts))},
    }


def _base64(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def overlap(query: str, text: str) -> float:
    """Share of the query's characters that the text holds: works for Chinese and is easy to foretell."""
    wanted = set(query.lower()) - {" "}
    return len(wanted & set(text.lower())) / max(len(wanted), 1)


def _rerank(body: dict[str, Any]) -> Any:
    if "texts" in body:  # Text Embeddings Inference
        ranked = _ranked(body["query"], body["texts"])
        return [{"index": index, "score": score} for index, score in ranked]
    documents = [item["text"] if isinstance(item, dict) else item for item in body["documents"]]
    ranked = _ranked(body["query"], documents)[: body.get("top_n") or len(documents)]
    results = [{"index": index, "relevance_score": score} for index, score in ranked]
    return {"id": "rerank-scripted", "model": body.get("model", "scripted"), "results": results}


def _ranked(query: str, texts: list[str]) -> list[tuple[int, float]]:
    scores = [(index, overlap(query, text)) for index, text in enumerate(texts)]
    return sorted(scores, key=lambda pair: (-pair[1], pair[0]))
