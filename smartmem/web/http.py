"""One bounded HTTP exchange: checked addresses, a cap on decoded bytes, a deadline, and failures as observations."""

from __future__ import annotations

import asyncio
import datetime as dt
import email.utils
import ssl
import zlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import httpx

from smartmem.clock import Clock
from smartmem.web.aio import in_thread
from smartmem.web.guard import Endpoint, Exemption, Resolver, refused
from smartmem.web.types import Kind, Observation, observe
from smartmem.web.urls import BadUrl, parse

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
# How many addresses of one name are tried before it counts as unreachable.
_MAX_ADDRESSES = 3


class Stop(Exception):  # not an error: it carries an outcome out of nested awaits
    """Ends an exchange early with an observation; never leaves this package."""

    def __init__(self, observation: Observation) -> None:
        super().__init__(observation.message)
        self.observation = observation


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """A response that was read whole. `hops` are the addresses asked, the last one being `url`."""

    url: str
    status: int
    content_type: str
    charset: str
    content: bytes
    hops: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Caps of one exchange. `max_bytes` counts after decompression, `timeout_s` everything from name look-up on."""

    timeout_s: float
    max_bytes: int
    max_redirects: int
    user_agent: str


def retry_after(value: str | None, now: dt.datetime) -> float | None:
    """Seconds from a Retry-After header (RFC 9110: seconds or an HTTP date); None where it says nothing usable."""
    if not value:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        when = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    when = when if when.tzinfo else when.replace(tzinfo=dt.UTC)
    return max(0.0, (when - now).total_seconds())


def status_observation(status: int, url: str, wait: float | None) -> Observation:
    """What a 4xx or 5xx means to the agent."""
    if status == 429:
        kind = Kind.RATE_LIMITED
    elif status >= 500:
        kind = Kind.SERVER_ERROR
    elif status in (401, 402, 403, 407, 451):
        kind = Kind.FORBIDDEN
    else:
        kind = Kind.NOT_FOUND if status in (404, 410) else Kind.CLIENT_ERROR
    return observe(kind, f"{url} answered {status}", url=url, status=status, retry_after=wait)


class Exchange:
    """GETs pages. One instance serves many fetches; it keeps no connection and no cookie between hops.

    A connection kept for one host could otherwise serve another host at the same address, past its certificate check.
    """

    def __init__(
        self,
        limits: Limits,
        *,
        resolver: Resolver,
        exemptions: Sequence[Exemption],
        clock: Clock,
        accept: Sequence[str],
    ) -> None:
        self._limits = limits
        self._resolver = resolver
        self._exemptions = tuple(exemptions)
        self._clock = clock
        self._accept = tuple(accept)
        self._tls: ssl.SSLContext = httpx.create_ssl_context()

    async def get(self, url: str, hops: list[str]) -> Body:
        """The body behind `url`; `hops` is filled on the way. Raises `Stop`, or TimeoutError at the deadline."""
        async with asyncio.timeout(self._limits.timeout_s):
            target = url
            for _ in range(self._limits.max_redirects + 1):
                answer = await self._hop(target, hops)
                if isinstance(answer, Body):
                    return answer
                target = answer
        raise Stop(
            observe(
                Kind.TOO_MANY_REDIRECTS, f"{url} redirects more than {self._limits.max_redirects} times", url=hops[-1]
            )
        )

    async def _hop(self, url: str, hops: list[str]) -> Body | str:
        """Ask one address: its body, or the address that it redirects to."""
        try:
            target = parse(url)
        except BadUrl as error:
            raise Stop(observe(Kind.INVALID_INPUT, str(error), url=hops[-1] if hops else url)) from None
        hops.append(str(target))
        failure: httpx.HTTPError | None = None
        for endpoint in (await self._endpoints(target))[:_MAX_ADDRESSES]:
            try:
                return await self._ask(target, endpoint, hops)
            except httpx.ConnectError as error:
                failure = error
            except httpx.TimeoutException:
                raise TimeoutError from None
            except (httpx.HTTPError, httpx.StreamError) as error:
                message = f"{target}: {type(error).__name__}: {error}"
                raise Stop(observe(Kind.BAD_RESPONSE, message, url=str(target))) from None
        raise Stop(observe(Kind.UNREACHABLE, f"{target} cannot be reached: {failure}", url=str(target)))

    async def _endpoints(self, target: httpx.URL) -> list[Endpoint]:
        host = target.raw_host.decode("ascii")
        port = target.port or (443 if target.scheme == "https" else 80)
        try:
            endpoints = list(await in_thread(self._resolver, host, port))
        except (OSError, UnicodeError) as error:
            raise Stop(
                observe(Kind.DNS_ERROR, f"the host {host} cannot be looked up: {error}", url=str(target))
            ) from None
        if not endpoints:
            raise Stop(observe(Kind.DNS_ERROR, f"the host {host} has no address", url=str(target)))
        bad = refused(endpoints, self._exemptions)
        if bad:
            message = f"{target} leads to {bad}, which is not a public address"
            raise Stop(observe(Kind.BLOCKED_ADDRESS, message, url=str(target)))
        return endpoints

    async def _ask(self, target: httpx.URL, endpoint: Endpoint, hops: list[str]) -> Body | str:
        address, port = endpoint
        transport = httpx.AsyncHTTPTransport(verify=self._tls, trust_env=False)
        async with httpx.AsyncClient(transport=transport, timeout=self._limits.timeout_s) as client:
            request = client.build_request(
                "GET",
                # The checked address stands in the URL, the name in Host and in the TLS handshake.
                target.copy_with(host=address, port=port, fragment=None),
                headers={
                    "Host": target.netloc.decode("ascii"),
                    "User-Agent": self._limits.user_agent,
                    "Accept": ", ".join((*self._accept, "*/*;q=0.1")),
                    "Accept-Encoding": "gzip, deflate",
                },
                extensions={"sni_hostname": target.raw_host.decode("ascii")},
            )
            response = await client.send(request, stream=True, follow_redirects=False)
            try:
                return await self._read(target, response, hops)
            finally:
                await response.aclose()

    async def _read(self, target: httpx.URL, response: httpx.Response, hops: list[str]) -> Body | str:
        url, status, headers = str(target), response.status_code, response.headers
        if status in _REDIRECTS and "location" in headers:
            try:
                return str(target.join(headers["location"]))
            except (httpx.InvalidURL, ValueError) as error:
                raise Stop(observe(Kind.BAD_RESPONSE, f"{url} redirects to no URL: {error}", url=url)) from None
        if status != 200:
            if status < 400:
                raise Stop(
                    observe(Kind.BAD_RESPONSE, f"{url} answered {status} without a page", url=url, status=status)
                )
            raise Stop(status_observation(status, url, retry_after(headers.get("retry-after"), self._clock.now())))
        media, _, parameters = headers.get("content-type", "").partition(";")
        media = media.strip().lower()
        if media and media not in self._accept:
            raise Stop(observe(Kind.NOT_HTML, f"{url} is {media}", url=url, status=status))
        declared = headers.get("content-length", "")
        if declared.isascii() and declared.isdigit() and int(declared) > self._limits.max_bytes:
            raise self._too_large(url, f"declares {declared} bytes")
        content = await self._content(url, response.aiter_raw(), headers.get("content-encoding", ""))
        _, _, charset = parameters.lower().partition("charset=")
        return Body(
            url=url,
            status=status,
            content_type=media,
            charset=charset.split(";")[0].strip(" \"'"),
            content=content,
            hops=tuple(hops),
        )

    async def _content(self, url: str, raw: AsyncIterator[bytes], encoding: str) -> bytes:
        """The decoded body, never holding more than the cap: each piece is unpacked only as far as the cap allows.

        httpx unpacks a piece whole, and 64 KB of gzip can be 64 MB; two layers of it can be 64 GB.
        """
        inflate = _inflater(encoding)
        if inflate is None:
            raise Stop(
                observe(Kind.BAD_RESPONSE, f"{url} is packed as {encoding[:40]!r}, which was not asked for", url=url)
            )
        body, received = bytearray(), 0
        async for piece in raw:
            received += len(piece)
            try:
                for part in inflate.feed(piece, self._limits.max_bytes + 1 - len(body)):
                    body += part
            except zlib.error as error:
                raise Stop(observe(Kind.BAD_RESPONSE, f"{url} cannot be unpacked: {error}", url=url)) from None
            if len(body) > self._limits.max_bytes or received > self._limits.max_bytes:
                raise self._too_large(url, f"goes past {self._limits.max_bytes} bytes")
        return bytes(body)

    def _too_large(self, url: str, what: str) -> Stop:
        return Stop(observe(Kind.TOO_LARGE, f"{url} {what}; at most {self._limits.max_bytes} are read", url=url))


class _Plain:
    """A body that is not packed."""

    def feed(self, piece: bytes, room: int) -> list[bytes]:
        return [piece[:room]]


class _Deflate:
    """gzip (also of several members) and deflate (with or without the zlib wrapping), unpacked up to a limit."""

    def __init__(self, wbits: int) -> None:
        self._wbits = wbits
        self._engine = zlib.decompressobj(wbits)
        self._members = 0
        self._inside = False  # whether the present member has begun
        self._held = b""  # the first byte of a member: only two together tell what it is

    def feed(self, piece: bytes, room: int) -> list[bytes]:
        """At most `room` bytes of what `piece` unpacks to; a caller that gets `room` bytes stops."""
        parts: list[bytes] = []
        while piece and room > 0:
            if not self._inside:
                piece, self._held = self._held + piece, b""
                if len(piece) < 2:
                    self._held = piece
                    break
            try:
                part = self._engine.decompress(piece, room)
            except zlib.error:
                if self._inside:
                    raise
                if self._members:
                    break  # padding after the last member, which browsers overlook too
                if self._wbits != zlib.MAX_WBITS:
                    raise
                # Some servers send raw deflate under the name `deflate`.
                self._wbits = -zlib.MAX_WBITS
                self._engine = zlib.decompressobj(self._wbits)
                continue
            parts.append(part)
            room -= len(part)
            self._inside = not self._engine.eof
            if self._inside:
                break  # the input or the room is used up
            self._members += 1
            piece, self._engine = self._engine.unused_data, zlib.decompressobj(self._wbits)
        return parts


def _inflater(encoding: str) -> _Plain | _Deflate | None:
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return _Plain()
    if name in ("gzip", "x-gzip"):
        return _Deflate(zlib.MAX_WBITS | 16)
    return _Deflate(zlib.MAX_WBITS) if name == "deflate" else None
