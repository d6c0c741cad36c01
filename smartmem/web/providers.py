"""Tavily, Brave and SearXNG behind one protocol, from their published APIs; each class names the pages it was held
against on 2026-11-27. No key was at hand: nothing here has met the services themselves.

Keys come from the environment at the moment of the call; no object keeps one and no message shows one.
"""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Mapping
from typing import Any

from smartmem.clock import Clock
from smartmem.settings import WebSearchSettings
from smartmem.text import cut, language
from smartmem.web.api import Answer, Call, call, date_of, failed, rows, text_of
from smartmem.web.types import Kind, Observation, SearchProvider, SearchRequest, SearchResult, observe

# Tavily and Brave refuse longer queries.
_MAX_QUERY = 400
_MAX_BRAVE_WORDS = 50


def make_providers(
    settings: WebSearchSettings, *, clock: Clock, env: Mapping[str, str] = os.environ
) -> list[SearchProvider]:
    """The providers that the settings name, in that order."""
    made: dict[str, SearchProvider] = {
        "tavily": Tavily(settings.tavily_url, timeout_s=settings.timeout_s, clock=clock, env=env),
        "brave": Brave(settings.brave_url, timeout_s=settings.timeout_s, clock=clock, env=env),
        "searxng": SearXNG(settings.searxng_url, timeout_s=settings.timeout_s, clock=clock),
    }
    return [made[name] for name in settings.providers]


def _missing(key: str, service: str) -> Observation:
    return observe(Kind.NOT_CONFIGURED, f"{service} has no key: set {key} in the environment")


def _with_sites(query: str, domains: tuple[str, ...]) -> str:
    return f"{query} ({' OR '.join(f'site:{d}' for d in domains)})" if domains else query


def _cutoff(request: SearchRequest, clock: Clock) -> dt.date | None:
    return None if request.recency_days is None else (clock.now() - dt.timedelta(days=request.recency_days)).date()


class Tavily:
    """POST /search with a bearer key.

    429 carries `retry-after` in seconds (docs.tavily.com/documentation/rate-limits). 432 and 433 mean that the plan's
    or the pay-as-you-go limit is used up (help.tavily.com, "Errors Code"): waiting does not help before the month's
    end, so they count as a key that is refused.
    """

    name = "tavily"
    key = "TAVILY_API_KEY"

    def __init__(self, base_url: str, *, timeout_s: float, clock: Clock, env: Mapping[str, str]) -> None:
        self._url = f"{base_url.rstrip('/')}/search"
        self._timeout_s, self._clock, self._env = timeout_s, clock, env

    def search(self, request: SearchRequest) -> list[SearchResult] | Observation:
        secret = self._env.get(self.key, "")
        if not secret:
            return _missing(self.key, self.name)
        body: dict[str, Any] = {
            "query": cut(request.query, _MAX_QUERY)[0],
            "max_results": min(request.top_k, 20),
            "search_depth": "basic",
        }
        if request.domain_allow:
            body["include_domains"] = list(request.domain_allow)
        since = _cutoff(request, self._clock)
        if since:
            body["start_date"] = since.isoformat()
        asked = Call(
            method="POST", url=self._url, headers={"Authorization": f"Bearer {secret}"}, body=body, secret=secret
        )
        answer = call(self.name, asked, timeout_s=self._timeout_s)
        if isinstance(answer, Observation):
            return answer
        failure = self._failure(answer, secret)
        return failure or _results(self.name, rows(answer.data, "results"), ("content",), ("published_date",))

    def _failure(self, answer: Answer, secret: str) -> Observation | None:
        failure = failed(self.name, answer, _tavily_said(answer.data), secret, self._clock)
        if failure and answer.status in (432, 433):
            return observe(Kind.FORBIDDEN, failure.message, status=answer.status)
        return failure


def _tavily_said(data: Any) -> str:
    """The words of an error: `detail` is an object with `error`, a list of what is wrong with each field, or text."""
    said = data.get("detail", data.get("error")) if isinstance(data, dict) else None
    if isinstance(said, list):
        return "; ".join(str(each.get("msg", "")) for each in said if isinstance(each, dict))
    said = said.get("error") if isinstance(said, dict) else said
    return said if isinstance(said, str) else ""


class Brave:
    """GET /res/v1/web/search with X-Subscription-Token. Domains go into the query as `site:` operators.

    At most 400 characters and 50 words, 20 results; `search_lang` is English unless it is named, so that a Chinese
    question has to name it (api-dashboard.search.brave.com/api-reference/web/search/get). The X-RateLimit-* headers
    list one value a window (api.search.brave.com/app/documentation/web-search/response-headers).
    """

    name = "brave"
    key = "BRAVE_API_KEY"

    def __init__(self, base_url: str, *, timeout_s: float, clock: Clock, env: Mapping[str, str]) -> None:
        self._url = f"{base_url.rstrip('/')}/res/v1/web/search"
        self._timeout_s, self._clock, self._env = timeout_s, clock, env

    def search(self, request: SearchRequest) -> list[SearchResult] | Observation:
        secret = self._env.get(self.key, "")
        if not secret:
            return _missing(self.key, self.name)
        sites = _with_sites("", request.domain_allow).strip()
        words = cut(request.query, _MAX_QUERY - len(sites) - 1)[0].split()[: _MAX_BRAVE_WORDS - len(sites.split())]
        params = {
            "q": f"{' '.join(words)} {sites}".strip(),
            "count": str(min(request.top_k, 20)),
            "text_decorations": "false",
        }
        if language(request.query) == "zh":
            params["search_lang"] = "zh-hans"
        since = _cutoff(request, self._clock)
        if since:
            params["freshness"] = f"{since.isoformat()}to{self._clock.now().date().isoformat()}"
        asked = Call(
            method="GET", url=self._url, headers={"X-Subscription-Token": secret}, params=params, secret=secret
        )
        answer = call(self.name, asked, timeout_s=self._timeout_s)
        if isinstance(answer, Observation):
            return answer
        failure = self._failure(answer, secret)
        return failure or _results(self.name, rows(answer.data, "web", "results"), ("description",), ("page_age",))

    def _failure(self, answer: Answer, secret: str) -> Observation | None:
        error = answer.data.get("error") if isinstance(answer.data, dict) else None
        error = error if isinstance(error, dict) else {}
        detail = f"{error.get('code', '')} {error.get('detail', '')}".strip()
        failure = failed(self.name, answer, detail, secret, self._clock)
        if failure and error.get("code") == "SUBSCRIPTION_TOKEN_INVALID":
            return observe(Kind.FORBIDDEN, failure.message, status=answer.status)
        if failure and failure.kind is Kind.RATE_LIMITED and failure.retry_after is None:
            wait = _brave_wait(answer.headers)
            return observe(Kind.RATE_LIMITED, failure.message, status=answer.status, retry_after=wait)
        return failure


def _brave_wait(headers: Mapping[str, str]) -> float | None:
    """Seconds until every used-up window is open again; the headers list one value for each window (second, month)."""
    try:
        resets = [float(v) for v in headers.get("x-ratelimit-reset", "").split(",")]
        remaining = [float(v) for v in headers.get("x-ratelimit-remaining", "").split(",")]
    except ValueError:
        return None
    used_up = [reset for reset, left in zip(resets, remaining, strict=False) if left <= 0]
    return max(used_up) if used_up else min(resets)


class SearXNG:
    """GET /search?format=json of an instance of your own; public ones mostly refuse that format with 403.

    `time_range` is day, month or year, nothing between (docs.searxng.org/dev/search_api).
    """

    name = "searxng"

    def __init__(self, base_url: str, *, timeout_s: float, clock: Clock) -> None:
        self._base_url = base_url.rstrip("/")
        self._timeout_s, self._clock = timeout_s, clock

    def search(self, request: SearchRequest) -> list[SearchResult] | Observation:
        if not self._base_url:
            return observe(Kind.NOT_CONFIGURED, "searxng has no instance: set web.search.searxng_url")
        params = {"q": _with_sites(request.query, request.domain_allow), "format": "json"}
        if request.recency_days is not None and request.recency_days <= 366:
            # Coarse on purpose: the API knows these steps only; WebSearch drops what is older than asked.
            days = request.recency_days
            params["time_range"] = "day" if days <= 1 else "month" if days <= 31 else "year"
        asked = Call(method="GET", url=f"{self._base_url}/search", params=params)
        answer = call(self.name, asked, timeout_s=self._timeout_s)
        if isinstance(answer, Observation):
            return answer
        hint = "allow the json format in its settings.yml (search.formats)" if answer.status == 403 else ""
        failure = failed(self.name, answer, hint, "", self._clock)
        if failure:
            return failure
        found = _results(self.name, rows(answer.data, "results"), ("content",), ("publishedDate", "pubdate"))
        silent = answer.data.get("unresponsive_engines")
        if not found and isinstance(silent, list) and silent:
            # 200 without results means two things; engines that are down are not "nothing found".
            engines = ", ".join(str(e[0]) if isinstance(e, list) and e else str(e) for e in silent[:5])
            return observe(Kind.SERVER_ERROR, f"searxng got no answer from its engines: {engines}", status=200)
        return found[: request.top_k]


def _results(
    provider: str, found: list[Mapping[str, Any]], snippet: tuple[str, ...], date: tuple[str, ...]
) -> list[SearchResult]:
    usable = [row for row in found if text_of(row, "url").startswith(("http://", "https://"))]
    return [
        SearchResult(
            url=text_of(row, "url"),
            title=text_of(row, "title"),
            snippet=text_of(row, *snippet),
            rank=rank,
            provider=provider,
            published_at=date_of(row, *date),
        )
        for rank, row in enumerate(usable, 1)
    ]
