"""`web_search`: providers in their order until one has results, filtered and without duplicates."""

from __future__ import annotations

import datetime as dt
import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from smartmem.clock import Clock, SystemClock
from smartmem.settings import WebSearchSettings
from smartmem.text import fold_space
from smartmem.web.pace import Pacer
from smartmem.web.providers import make_providers
from smartmem.web.types import (
    Attempt,
    Kind,
    Observation,
    SearchAnswer,
    SearchProvider,
    SearchRequest,
    SearchResult,
    observe,
)
from smartmem.web.urls import canonical, clean_domain, domain, in_domains

log = logging.getLogger(__name__)

MAX_TOP_K = 20
# Filters and duplicates take results away, so a provider is asked for more than the caller wants.
_SPARE = 2
# Where a 429 names no time.
_DEFAULT_COOL_DOWN_S = 30.0
# A key or a plan does not mend itself within a conversation.
_REFUSED_COOL_DOWN_S = 300.0


class WebSearch:
    """Searches with the first provider that answers; safe to share between threads.

    `providers` and `pacers` (by provider name) are made from the settings unless they are given.
    """

    def __init__(
        self,
        settings: WebSearchSettings | None = None,
        *,
        providers: Sequence[SearchProvider] | None = None,
        pacers: Mapping[str, Pacer] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._settings = settings or WebSearchSettings()
        self._clock = clock or SystemClock()
        self._providers = (
            list(providers) if providers is not None else make_providers(self._settings, clock=self._clock)
        )
        given = dict(pacers or {})
        self._pacers = {
            p.name: given.get(p.name) or Pacer(self._settings.rate_per_s.get(p.name, 1.0)) for p in self._providers
        }

    def search(
        self,
        query: str,
        top_k: int | None = None,
        domain_allow: Sequence[str] = (),
        recency_days: int | None = None,
    ) -> SearchAnswer:
        """At most `top_k` results, best first. Never raises for what a provider does.

        `domain_allow` keeps these domains and what lies below them; `recency_days` drops results that are known
        to be older (a result without a date stays, as the provider was asked for recent ones).
        """
        started = time.monotonic()
        request = _request(query, top_k if top_k is not None else self._settings.top_k, domain_allow, recency_days)
        if isinstance(request, Observation):
            return SearchAnswer(query=query, observation=request)
        attempts: list[Attempt] = []
        dropped: Counter[str] = Counter()
        last: Observation | None = None
        for provider in self._providers:
            answer, attempt = self._ask(provider, request)
            if isinstance(answer, Observation):
                attempts.append(attempt)
                last = answer
                continue
            kept, lost = self._keep(answer, request)
            dropped.update(lost)
            if not kept:
                last = observe(Kind.NO_RESULTS, f"{provider.name} has no result for {request.query[:100]!r}")
                reason = f"{len(answer)} results, none left after the filters" if answer else "no results"
                attempts.append(replace(attempt, outcome=Kind.NO_RESULTS.value, reason=reason))
                continue
            attempts.append(replace(attempt, results=len(kept)))
            return SearchAnswer(
                query=request.query,
                results=tuple(kept),
                provider=provider.name,
                attempts=tuple(attempts),
                dropped=dict(dropped),
                latency_ms=(time.monotonic() - started) * 1000,
            )
        return SearchAnswer(
            query=request.query,
            attempts=tuple(attempts),
            dropped=dict(dropped),
            observation=_summary(attempts, last),
            latency_ms=(time.monotonic() - started) * 1000,
        )

    def _ask(
        self, provider: SearchProvider, request: SearchRequest
    ) -> tuple[list[SearchResult] | Observation, Attempt]:
        started = time.monotonic()
        pacer = self._pacers[provider.name]
        wait = pacer.turn(self._settings.max_wait_s)
        answer: list[SearchResult] | Observation
        if wait > 0:
            answer = observe(
                Kind.RATE_LIMITED, f"{provider.name} has no free turn for {wait:.1f} s", retry_after=round(wait, 1)
            )
        else:
            answer = provider.search(replace(request, top_k=min(MAX_TOP_K, request.top_k * _SPARE)))
            if isinstance(answer, Observation) and answer.kind is Kind.RATE_LIMITED:
                pacer.close_for(answer.retry_after if answer.retry_after is not None else _DEFAULT_COOL_DOWN_S)
            elif isinstance(answer, Observation) and answer.kind is Kind.FORBIDDEN:
                pacer.close_for(_REFUSED_COOL_DOWN_S)
        elapsed = (time.monotonic() - started) * 1000
        bad = answer if isinstance(answer, Observation) else None
        outcome = bad.kind.value if bad else "ok"
        log.info(
            "web_search %s %s",
            provider.name,
            outcome,
            extra={"provider": provider.name, "outcome": outcome, "latency_ms": elapsed},
        )
        reason = bad.message if bad else ""
        return answer, Attempt(provider=provider.name, outcome=outcome, reason=reason, latency_ms=elapsed)

    def _keep(self, found: Sequence[SearchResult], request: SearchRequest) -> tuple[list[SearchResult], Counter[str]]:
        """Filter, take duplicates out, and number the rest anew."""
        since = None
        if request.recency_days is not None:
            since = self._clock.now() - dt.timedelta(days=request.recency_days)
        kept: list[SearchResult] = []
        seen: set[str] = set()
        dropped: Counter[str] = Counter()
        for result in found:
            key = canonical(result.url)
            if request.domain_allow and not in_domains(domain(result.url), request.domain_allow):
                dropped["domain"] += 1
            elif since and result.published_at and result.published_at < since:
                dropped["recency"] += 1
            elif key in seen:
                dropped["duplicate"] += 1
            else:
                seen.add(key)
                kept.append(replace(result, rank=len(kept) + 1))
        return kept[: request.top_k], dropped


def _request(
    query: str, top_k: int, domain_allow: Sequence[str], recency_days: int | None
) -> SearchRequest | Observation:
    """A checked request, or what is wrong with it."""
    text = fold_space(query)
    if not text:
        return observe(Kind.INVALID_INPUT, "query is empty")
    if not 1 <= top_k <= MAX_TOP_K:
        return observe(Kind.INVALID_INPUT, f"top_k is {top_k}; it goes from 1 to {MAX_TOP_K}")
    if recency_days is not None and not 1 <= recency_days <= 36_500:
        return observe(Kind.INVALID_INPUT, f"recency_days is {recency_days}; it goes from 1 to 36500")
    domains = []
    for entry in domain_allow:
        name = clean_domain(entry)
        if not name:
            return observe(Kind.INVALID_INPUT, f"domain_allow has {entry!r}, which is no domain; write example.org")
        domains.append(name)
    return SearchRequest(query=text, top_k=top_k, domain_allow=tuple(domains), recency_days=recency_days)


def _summary(attempts: Sequence[Attempt], last: Observation | None) -> Observation:
    """One observation for a search that no provider answered; the kind of the best that was reached."""
    if last is None:
        return observe(Kind.NOT_CONFIGURED, "no search provider is configured: set web.search.providers")
    tried = "; ".join(f"{a.provider}: {a.reason}" for a in attempts)
    outcomes = [Kind(a.outcome) for a in attempts]
    if Kind.NO_RESULTS in outcomes:
        return observe(Kind.NO_RESULTS, f"no results ({tried})")
    reached = [kind for kind in outcomes if kind is not Kind.NOT_CONFIGURED]
    kind = reached[-1] if reached else Kind.NOT_CONFIGURED
    return observe(kind, f"no search provider answered ({tried})", retry_after=last.retry_after, status=last.status)
