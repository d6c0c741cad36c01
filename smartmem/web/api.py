"""One call of a search service: bounded in time and size, the key kept out of every message."""

from __future__ import annotations

import asyncio
import datetime as dt
import email.utils
import functools
import html
import json
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from smartmem.clock import UTC, Clock
from smartmem.web.aio import run
from smartmem.web.http import retry_after, status_observation
from smartmem.web.types import Kind, Observation, observe

_MAX_BYTES = 4_000_000
_TAG = re.compile(r"</?[a-zA-Z][^>]{0,200}>")


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request to a service. `secret` is the key that stands in the headers; it is struck out of messages."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    secret: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the service answered: any status, and the JSON value where the body is one (None otherwise)."""

    status: int
    headers: Mapping[str, str]
    data: Any


def call(service: str, request: Call, *, timeout_s: float) -> Answer | Observation:
    """Ask `service`. An answer of any status is an `Answer`; only what prevents one is an observation.

    The operator chose these addresses, so they are not checked like pages are, and the system's proxy is used.
    """
    try:
        return run(_call(request, timeout_s))
    except (TimeoutError, httpx.TimeoutException):
        return observe(Kind.TIMEOUT, f"{service} did not answer within {timeout_s:g} s")
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
        message = _without(f"{service} cannot be reached: {type(error).__name__}: {error}", request.secret)
        return observe(Kind.UNREACHABLE, message)
    except _TooLarge:
        return observe(Kind.TOO_LARGE, f"{service} answered with more than {_MAX_BYTES} bytes")


@functools.lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    """Reading the certificate authorities takes 20 ms, more than many a search."""
    return httpx.create_ssl_context()


class _TooLarge(Exception):  # an outcome that is caught in `call`
    pass


async def _call(request: Call, timeout_s: float) -> Answer:
    options: dict[str, Any] = {"timeout": timeout_s, "follow_redirects": False, "verify": _tls()}
    async with asyncio.timeout(timeout_s), httpx.AsyncClient(**options) as client:
        sent = client.build_request(
            request.method,
            request.url,
            headers={"Accept": "application/json", **request.headers},
            params=request.params or None,
            json=request.body,
        )
        response = await client.send(sent, stream=True)
        try:
            content = bytearray()
            async for piece in response.aiter_bytes():
                content += piece
                if len(content) > _MAX_BYTES:
                    raise _TooLarge
        finally:
            await response.aclose()
        try:
            data = json.loads(bytes(content))
        except (ValueError, RecursionError):
            data = None
        return Answer(status=response.status_code, headers=dict(response.headers), data=data)


def failed(service: str, answer: Answer, detail: str, secret: str, clock: Clock) -> Observation | None:
    """The observation of an answer that is not 200 or not a JSON object; None for a good one."""
    if answer.status == 200:
        if isinstance(answer.data, dict):
            return None
        return observe(Kind.BAD_RESPONSE, f"{service} answered with something that is no JSON object", status=200)
    if answer.status < 400:
        # A redirect is not followed: it would carry the key to another host.
        return observe(Kind.BAD_RESPONSE, f"{service} answered {answer.status}; check its URL", status=answer.status)
    usual = status_observation(answer.status, service, retry_after(answer.headers.get("retry-after"), clock.now()))
    message = f"{service} answered {answer.status}" + (f": {_without(detail, secret)[:200]}" if detail else "")
    return observe(usual.kind, message, status=answer.status, retry_after=usual.retry_after)


def _without(text: str, secret: str) -> str:
    return text.replace(secret, "[key]") if secret else text


def rows(data: Any, *path: str) -> list[Mapping[str, Any]]:
    """The objects in the list at `path`; what is missing or of another shape counts as none."""
    for key in path:
        data = data.get(key) if isinstance(data, dict) else None
    return [row for row in data if isinstance(row, dict)] if isinstance(data, list) else []


def text_of(row: Mapping[str, Any], *keys: str) -> str:
    """The first of `keys` that holds text, without mark-up and entities."""
    for key in keys:
        value = row.get(key)
        if isinstance(value, str) and value.strip():
            return html.unescape(_TAG.sub("", value)).strip()
    return ""


def date_of(row: Mapping[str, Any], *keys: str) -> dt.datetime | None:
    """The first of `keys` that holds a date, ISO 8601 or RFC 5322; without a zone it counts as UTC."""
    for key in keys:
        value = row.get(key)
        if not isinstance(value, str) or not value.strip():
            continue
        for parse in (dt.datetime.fromisoformat, email.utils.parsedate_to_datetime):
            try:
                when = parse(value.strip())
            except (ValueError, TypeError):
                continue
            return when.astimezone(UTC) if when.tzinfo else when.replace(tzinfo=UTC)
    return None
