"""Addresses: which are acceptable, and which are the same page."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

import httpx

# Parameters that say where a reader came from, not what is shown.
_TRACKING = frozenset(
    {
        "gclid",
        "fbclid",
        "msclkid",
        "yclid",
        "dclid",
        "igshid",
        "mc_cid",
        "mc_eid",
        "spm",
        "scm",
        "share_token",
        "ref_src",
    }
)
_INDEX = frozenset({"index.html", "index.htm", "index.php", "default.aspx"})
_MAX_URL = 2083
_HOST = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*|[0-9a-f:.]*:[0-9a-f:.]*")


class BadUrl(ValueError):
    """An address that is not fetched, whatever it points to; the message says why."""


def parse(url: str) -> httpx.URL:
    """An http(s) URL with a host, without credentials. Raises `BadUrl`."""
    if len(url) > _MAX_URL:
        raise BadUrl(f"the address has {len(url)} characters; at most {_MAX_URL} are accepted")
    try:
        parsed = httpx.URL(url.strip())
        host = parsed.host
    except (httpx.InvalidURL, ValueError) as error:
        raise BadUrl(f"{url[:200]!r} is not a URL: {error}") from None
    if parsed.scheme not in ("http", "https"):
        raise BadUrl(f"the scheme of {url[:200]!r} is {parsed.scheme or 'missing'}; only http and https are fetched")
    if not host or "%" in host:
        raise BadUrl(f"{url[:200]!r} names no usable host")
    if parsed.port is not None and not 0 < parsed.port < 65536:
        raise BadUrl(f"{url[:200]!r} has the port {parsed.port}; ports go from 1 to 65535")
    if parsed.userinfo:
        # `http://bank.example@evil.example/` fools readers, and credentials have no place in a log.
        raise BadUrl("the address carries a user name or password; give it without")
    return parsed


def domain(url: str) -> str:
    """The lower-case host without `www.`, for filters and display; empty where there is none."""
    host = (urlsplit(url).hostname or "").rstrip(".").lower()
    return host.removeprefix("www.")


def in_domains(host: str, domains: Iterable[str]) -> bool:
    """Whether `host` is one of `domains` or below one: whole labels count, so `notnist.gov` is not in `nist.gov`."""
    return any(host == d or host.endswith(f".{d}") for d in domains)


def clean_domain(value: str) -> str:
    """`https://www.Example.org/x` or `*.example.org` or `example.org.` as `example.org`; '' if it is none."""
    text = value.strip().lower()
    text = text if "//" in text else f"//{text.removeprefix('*.')}"
    try:
        host = domain(text)
        name = host.encode("idna").decode("ascii") if host else ""
        return name if _HOST.fullmatch(name) else ""
    except (ValueError, UnicodeError):
        return ""


def canonical(url: str) -> str:
    """The form under which two addresses count as the same page; for comparing, not for fetching.

    Scheme, `www.`, default port, fragment, tracking parameters, their order, a trailing slash and an index file
    do not count.

    >>> canonical("https://www.A.org/x/?utm_source=y&b=2&a=1#top") == canonical("http://a.org/x?a=1&b=2")
    True
    """
    try:
        parts = urlsplit(url.strip())
        host = parts.hostname or ""
        port = parts.port
    except ValueError:
        return url
    host = host.rstrip(".").removeprefix("www.")
    name = f"{host}:{port}" if port and port not in (80, 443) else host
    path = posixpath.normpath(unquote(parts.path)) if parts.path else ""
    head, _, tail = path.rpartition("/")
    path = head if tail in _INDEX or tail == "." else path
    query = sorted(
        (k, v)
        for k, v in parse_qsl(parts.query, keep_blank_values=True)
        if k.lower() not in _TRACKING and not k.lower().startswith("utm_")
    )
    tail_text = f"?{urlencode(query)}" if query else ""
    return f"{name}{quote(path).rstrip('/')}{tail_text}"
