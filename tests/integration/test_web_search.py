"""web_search: order of providers, rate limits, filters, duplicates."""

from __future__ import annotations

import datetime as dt
import logging
import time
from collections.abc import Iterator
from typing import Any

import pytest

from smartmem.web.pace import Pacer
from smartmem.web.providers import make_providers
from smartmem.web.search import WebSearch
from smartmem.web.types import Kind, Observation, SearchRequest, SearchResult, observe
from tests.support.local_web import KEYS, TODAY, LocalWeb


@pytest.fixture(scope="module")
def server() -> Iterator[LocalWeb]:
    with LocalWeb() as running:
        yield running


@pytest.fixture
def web(server: LocalWeb) -> LocalWeb:
    server.reset()
    return server


def searcher(web: LocalWeb, *names: str, **changes: Any) -> WebSearch:
    settings = web.search_settings(*names, **changes)
    return WebSearch(settings, providers=make_providers(settings, clock=web.clock, env=KEYS), clock=web.clock)


class Fixed:
    """A provider with given results."""

    def __init__(self, *results: tuple[str, int | None], name: str = "fixed") -> None:
        self.name, self.asked = name, list[SearchRequest]()
        self._results = results

    def search(self, request: SearchRequest) -> list[SearchResult] | Observation:
        self.asked.append(request)
        return [
            SearchResult(
                url=url,
                title="t",
                snippet="s",
                rank=rank,
                provider=self.name,
                published_at=None if age is None else TODAY - dt.timedelta(days=age),
            )
            for rank, (url, age) in enumerate(self._results, 1)
        ]


def test_the_first_provider_that_answers_is_used(web: LocalWeb) -> None:
    answer = searcher(web).search("居住证 补办", 3)
    assert answer.provider == "tavily"
    assert [r.rank for r in answer.results] == [1, 2, 3]
    assert [(a.provider, a.outcome, a.results) for a in answer.attempts] == [("tavily", "ok", 3)]
    assert answer.observation is None


def test_the_order_falls_through_with_reasons(web: LocalWeb) -> None:
    web.modes.update(tavily="down", brave="429")
    answer = searcher(web).search("居住证 补办")
    assert answer.provider == "searxng"
    assert [(a.provider, a.outcome) for a in answer.attempts] == [
        ("tavily", "unreachable"),
        ("brave", "rate_limited"),
        ("searxng", "ok"),
    ]
    assert "RATE_LIMITED" in answer.attempts[1].reason
    assert answer.results


def test_all_down_is_one_observation_that_names_each(web: LocalWeb) -> None:
    web.modes.update(tavily="500", brave="503", searxng="silent")
    answer = searcher(web).search("居住证")
    assert not answer.results
    assert answer.observation
    assert answer.observation.kind is Kind.SERVER_ERROR
    assert answer.observation.retryable
    for name in ("tavily", "brave", "searxng"):
        assert name in answer.observation.message


def test_slow_providers_end_within_their_caps(web: LocalWeb) -> None:
    web.modes.update(tavily="slow", brave="slow", searxng="slow")
    started = time.monotonic()
    answer = searcher(web, timeout_s=0.2).search("居住证")
    assert time.monotonic() - started < 3 * 0.2 + 1
    assert answer.observation
    assert answer.observation.kind is Kind.TIMEOUT


def test_without_keys_and_instance_nothing_is_configured(web: LocalWeb, monkeypatch: pytest.MonkeyPatch) -> None:
    for key in KEYS:
        monkeypatch.delenv(key, raising=False)
    answer = WebSearch(web.search_settings(searxng_url=""), clock=web.clock).search("x")
    assert answer.observation
    assert answer.observation.kind is Kind.NOT_CONFIGURED
    assert not web.requests


def test_keys_come_from_the_environment_and_stay_out_of_logs_and_answers(
    web: LocalWeb, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for key, value in KEYS.items():
        monkeypatch.setenv(key, value)
    with caplog.at_level(logging.DEBUG):
        good = WebSearch(web.search_settings("tavily"), clock=web.clock).search("居住证")
        web.modes["tavily"] = "echo"
        bad = WebSearch(web.search_settings("tavily", "brave"), clock=web.clock).search("居住证")
    assert good.results
    assert bad.provider == "brave"
    shown = f"{good}{bad}{caplog.text}{[vars(r) for r in caplog.records]}"
    assert not any(value in shown for value in KEYS.values())


def test_no_results_tries_the_next_and_says_so(web: LocalWeb) -> None:
    web.modes["tavily"] = "empty"
    answer = searcher(web, "tavily", "brave").search("居住证")
    assert [(a.provider, a.outcome) for a in answer.attempts] == [("tavily", "no_results"), ("brave", "ok")]
    web.modes["searxng"] = "empty"
    alone = searcher(web, "searxng").search("居住证")
    assert alone.observation
    assert alone.observation.kind is Kind.NO_RESULTS


def test_a_provider_that_said_when_to_come_back_is_left_alone(web: LocalWeb) -> None:
    web.modes["tavily"] = "429"
    search = searcher(web, "tavily", "brave")
    search.search("居住证")
    asked = [path for _, path in web.requests].count("/tavily/search")
    web.modes.clear()
    answer = search.search("居住证")
    assert [path for _, path in web.requests].count("/tavily/search") == asked == 1
    assert answer.attempts[0].outcome == "rate_limited"
    assert "no free turn" in answer.attempts[0].reason
    assert answer.provider == "brave"


def test_a_refused_key_is_not_tried_again_at_once(web: LocalWeb) -> None:
    web.modes["tavily"] = "bad_key"
    search = searcher(web, "tavily", "brave")
    search.search("居住证")
    search.search("停车")
    assert [path for _, path in web.requests].count("/tavily/search") == 1


def test_the_rate_limit_is_each_providers_own() -> None:
    first, second = Fixed(("http://a.test/", None), name="one"), Fixed(("http://b.test/", None), name="two")
    pacer = Pacer(0.001, monotonic=lambda: 5000.0)
    search = WebSearch(providers=[first, second], pacers={"one": pacer})
    assert search.search("x").provider == "one"
    assert search.search("x").provider == "two"
    assert len(first.asked) == 1


def test_duplicates_are_one_result_and_are_counted() -> None:
    provider = Fixed(
        ("https://www.a.test/x/?utm_source=q", None), ("http://a.test/x", None), ("http://b.test/#y", None)
    )
    answer = WebSearch(providers=[provider]).search("x")
    assert [(r.rank, r.url) for r in answer.results] == [
        (1, "https://www.a.test/x/?utm_source=q"),
        (2, "http://b.test/#y"),
    ]
    assert answer.dropped == {"duplicate": 1}


def test_filters_hold_whatever_the_provider_does() -> None:
    provider = Fixed(
        ("http://docs.a.test/1", 3), ("http://nota.test/2", 3), ("http://a.test/3", 90), ("http://a.test/4", None)
    )
    search = WebSearch(providers=[provider], clock=_clock())
    answer = search.search("x", domain_allow=["https://www.A.test/"], recency_days=30)
    assert [r.url for r in answer.results] == ["http://docs.a.test/1", "http://a.test/4"]
    assert answer.dropped == {"domain": 1, "recency": 1}
    assert provider.asked[0].domain_allow == ("a.test",)


def _clock() -> Any:
    from smartmem.clock import ManualClock

    return ManualClock(TODAY)


def test_a_provider_is_asked_for_spares() -> None:
    provider = Fixed(*[(f"http://a.test/{i}", None) for i in range(20)])
    answer = WebSearch(providers=[provider]).search("x", 4)
    assert provider.asked[0].top_k == 8
    assert len(answer.results) == 4


@pytest.mark.parametrize(
    "arguments",
    [
        {"query": "  "},
        {"query": "x", "top_k": 0},
        {"query": "x", "top_k": 21},
        {"query": "x", "recency_days": 0},
        {"query": "x", "recency_days": 10**9},
        {"query": "x", "domain_allow": ["http://"]},
    ],
)
def test_bad_arguments_are_observations(arguments: dict[str, Any]) -> None:
    provider = Fixed(("http://a.test/", None))
    answer = WebSearch(providers=[provider]).search(**arguments)
    assert answer.observation
    assert answer.observation.kind is Kind.INVALID_INPUT
    assert not provider.asked


def test_no_provider_at_all() -> None:
    answer = WebSearch(providers=[]).search("x")
    assert answer.observation == observe(
        Kind.NOT_CONFIGURED, "no search provider is configured: set web.search.providers"
    )
