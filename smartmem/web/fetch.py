"""`web_fetch`: one public page as readable text, or an observation of why not."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence

from smartmem.clock import Clock, SystemClock
from smartmem.settings import WebFetchSettings
from smartmem.text import cut
from smartmem.web import extract
from smartmem.web.aio import in_thread, run
from smartmem.web.guard import Exemption, Resolver, system_resolver
from smartmem.web.http import Body, Exchange, Limits, Stop
from smartmem.web.types import FetchAnswer, Kind, Observation, Page, observe
from smartmem.web.urls import domain

log = logging.getLogger(__name__)

_PAGES = ("text/html", "application/xhtml+xml", "text/plain")


class WebFetcher:
    """Fetches pages of the public internet. Keeps nothing between calls, so one instance serves many threads.

    `resolver` looks names up (DNS by default); every address that it gives is checked before it is connected to.
    Raises `MissingExtra` when the extraction library is absent and `ConfigError` for an unusable `allow` entry.
    """

    def __init__(
        self,
        settings: WebFetchSettings | None = None,
        *,
        resolver: Resolver = system_resolver,
        clock: Clock | None = None,
    ) -> None:
        extract.require()
        self._settings = settings or WebFetchSettings()
        self._clock = clock or SystemClock()
        self._exchange = Exchange(
            Limits(
                timeout_s=self._settings.timeout_s,
                max_bytes=self._settings.max_bytes,
                max_redirects=self._settings.max_redirects,
                user_agent=self._settings.user_agent,
            ),
            resolver=resolver,
            exemptions=[Exemption.parse(entry) for entry in self._settings.allow],
            clock=self._clock,
            accept=_PAGES,
        )

    def fetch(self, url: str, max_chars: int | None = None) -> FetchAnswer:
        """One page, cut to `max_chars` characters (the setting is the most). Takes at most `timeout_s`.

        Never raises for what a page or a network does.
        """
        return self.fetch_many([url], max_chars)[0]

    def fetch_many(
        self, urls: Sequence[str], max_chars: int | None = None, budget_s: float | None = None
    ) -> list[FetchAnswer]:
        """Pages side by side, `concurrency` at a time, in the order asked; past `budget_s` the rest time out."""
        limit = min(max_chars if max_chars is not None else self._settings.max_chars, self._settings.max_chars)
        return run(self._all(urls, limit, budget_s))

    async def _all(self, urls: Sequence[str], max_chars: int, budget_s: float | None) -> list[FetchAnswer]:
        places = asyncio.Semaphore(self._settings.concurrency)
        started = time.monotonic()

        async def one(url: str) -> FetchAnswer:
            async with places:
                left = None if budget_s is None else budget_s - (time.monotonic() - started)
                return await self._one(url, max_chars, left)

        return list(await asyncio.gather(*(one(url) for url in urls)))

    async def _one(self, url: str, max_chars: int, left: float | None) -> FetchAnswer:
        started, hops = time.monotonic(), list[str]()
        allowed = self._settings.timeout_s if left is None else min(left, self._settings.timeout_s)
        page: Page | None = None
        failure: Observation | None = None
        try:
            async with asyncio.timeout(max(allowed, 0)):
                body = await self._exchange.get(url, hops)
                # In a thread, so that a page which is slow to parse holds up neither the others nor the deadline.
                page = await in_thread(self._page, url, body, max_chars)
        except Stop as stop:
            failure = stop.observation
        except TimeoutError:
            failure = observe(Kind.TIMEOUT, f"{url} was not read within {allowed:.1f} s", url=url)
        except extract.BrokenCharset as error:
            failure = observe(Kind.BROKEN_CHARSET, f"{url} cannot be decoded: {error}", url=url)
        except extract.NoText as error:
            failure = observe(Kind.NO_TEXT, str(error), url=url)
        elapsed = (time.monotonic() - started) * 1000
        outcome = failure.kind.value if failure else "ok"
        # The host only: the rest of an address can hold what a user wrote.
        host = domain(hops[-1]) if hops else ""
        log.info("web_fetch %s", outcome, extra={"domain": host, "outcome": outcome, "latency_ms": elapsed})
        return FetchAnswer(url=url, page=page, observation=failure, hops=tuple(hops), latency_ms=elapsed)

    def _page(self, url: str, body: Body, max_chars: int) -> Page:
        found = extract.read(body.content, declared=body.charset, content_type=body.content_type, url=body.url)
        text, truncated = cut(found.text, max_chars)
        return Page(
            url=url,
            final_url=body.url,
            domain=domain(body.url),
            title=found.title,
            text=text,
            language=found.language,
            fetched_at=self._clock.now(),
            published_at=found.published_at,
            charset=found.charset,
            content_type=body.content_type,
            bytes_read=len(body.content),
            truncated=truncated,
        )
