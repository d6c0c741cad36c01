"""What every search provider must do, and what each does with its service's own errors."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

import pytest

from smartmem.clock import UTC
from smartmem.web.providers import make_providers
from smartmem.web.types import Kind, Observation, SearchProvider, SearchRequest, SearchResult
from tests.support.local_web import KEYS, LocalWeb

NAMES = ("tavily", "brave", "searxng")


@pytest.fixture(scope="module")
def server() -> Iterator[LocalWeb]:
    with LocalWeb() as running:
        yield running


@pytest.fixture
def web(server: LocalWeb) -> LocalWeb:
    server.reset()
    return server


def provider(web: LocalWeb, name: str, *, timeout_s: float = 5.0, env: dict[str, str] = KEYS) -> SearchProvider:
    return make_providers(web.search_settings(name, timeout_s=timeout_s), clock=web.clock, env=env)[0]


def ask(web: LocalWeb, name: str, **request: object) -> list[SearchResult]:
    found = provider(web, name).search(SearchRequest(**{"query": "居住证 补办", **request}))  # type: ignore[arg-type]
    assert isinstance(found, list), found
    return found


@pytest.mark.parametrize("name", NAMES)
def test_results_are_ranked_and_complete(web: LocalWeb, name: str) -> None:
    found = ask(web, name, top_k=4)
    assert [r.rank for r in found] == [1, 2, 3, 4]
    assert found[0].url == "http://www.qingyun.gov.test/service/residence-permit.html"
    assert found[0].title == "居住证办理指南"
    assert "居住证" in found[0].snippet
    assert {r.provider for r in found} == {name}
    if name != "tavily":  # Tavily dates news only
        assert found[0].published_at == dt.datetime(2026, 3, 2, tzinfo=UTC)


@pytest.mark.parametrize("name", NAMES)
def test_domains_reach_the_service(web: LocalWeb, name: str) -> None:
    found = ask(web, name, query="ferry", domain_allow=("portellery.gov.test", "wirefeed.test"), top_k=20)
    assert {r.url.split("/")[2] for r in found} <= {"www.portellery.gov.test", "wirefeed.test"}
    assert found


def test_recency_reaches_the_service_in_its_own_words(web: LocalWeb) -> None:
    ask(web, "tavily", recency_days=30)
    assert web.bodies[-1]["start_date"] == "2026-07-02"
    ask(web, "brave", recency_days=30)
    assert "freshness=2026-07-02to2026-08-01" in web.requests[-1][1]
    for days, word in [(1, "day"), (30, "month"), (31, "month"), (32, "year"), (366, "year")]:
        ask(web, "searxng", recency_days=days)
        assert f"time_range={word}" in web.requests[-1][1]
    ask(web, "searxng", recency_days=400)
    assert "time_range" not in web.requests[-1][1]


def test_requests_are_those_of_the_published_apis(web: LocalWeb) -> None:
    ask(web, "tavily", top_k=3)
    assert web.requests[-1][1] == "/tavily/search"
    assert web.bodies[-1] == {"query": "居住证 补办", "max_results": 3, "search_depth": "basic"}
    ask(web, "brave", query="a b", domain_allow=("x.test", "y.test"))
    assert web.requests[-1][1].startswith("/brave/res/v1/web/search?q=a+b+%28site%3Ax.test+OR+site%3Ay.test%29&count=5")
    ask(web, "searxng", query="a b")
    assert web.requests[-1][1] == "/searxng/search?q=a+b&format=json"


def test_long_queries_are_cut_to_what_the_services_take(web: LocalWeb) -> None:
    ask(web, "tavily", query="居住证" * 300)
    assert len(web.bodies[-1]["query"]) <= 400
    ask(web, "brave", query="word " * 100, domain_allow=("a.test",))
    sent = web.requests[-1][1].split("q=")[1].split("&")[0]
    assert sent.count("+") <= 49
    assert "site%3Aa.test" in sent


@pytest.mark.parametrize("name", ["tavily", "brave"])
def test_without_a_key_the_service_is_not_asked(web: LocalWeb, name: str) -> None:
    found = provider(web, name, env={}).search(SearchRequest(query="x"))
    assert isinstance(found, Observation)
    assert found.kind is Kind.NOT_CONFIGURED
    assert f"{name.upper()}_API_KEY" in found.message
    assert not web.requests


def test_without_an_instance_searxng_is_not_configured(web: LocalWeb) -> None:
    settings = web.search_settings("searxng", searxng_url="")
    found = make_providers(settings, clock=web.clock, env=KEYS)[0].search(SearchRequest(query="x"))
    assert isinstance(found, Observation)
    assert found.kind is Kind.NOT_CONFIGURED


@pytest.mark.parametrize(
    ("name", "mode", "kind", "retry_after"),
    [
        ("tavily", "429", Kind.RATE_LIMITED, 7),
        ("tavily", "432", Kind.FORBIDDEN, None),  # the month's plan is used up: waiting seconds does not help
        ("tavily", "433", Kind.FORBIDDEN, None),
        ("tavily", "422", Kind.CLIENT_ERROR, None),
        ("tavily", "plain", Kind.CLIENT_ERROR, None),
        ("tavily", "500", Kind.SERVER_ERROR, None),
        ("tavily", "bad_key", Kind.FORBIDDEN, None),
        ("tavily", "redirect", Kind.BAD_RESPONSE, None),
        ("brave", "429", Kind.RATE_LIMITED, 2),  # the second's window is used up, the month's is not
        ("brave", "quota", Kind.RATE_LIMITED, 86400),
        ("brave", "503", Kind.SERVER_ERROR, None),
        ("brave", "bad_key", Kind.FORBIDDEN, None),
        ("searxng", "429", Kind.RATE_LIMITED, None),
        ("searxng", "500", Kind.SERVER_ERROR, None),
        ("searxng", "silent", Kind.SERVER_ERROR, None),
        ("searxng", "bad_key", Kind.FORBIDDEN, None),
        *[(name, "down", Kind.UNREACHABLE, None) for name in NAMES],
        *[(name, "garbage", Kind.BAD_RESPONSE, None) for name in NAMES],
    ],
)
def test_errors_become_observations(web: LocalWeb, name: str, mode: str, kind: Kind, retry_after: float | None) -> None:
    web.modes[name] = mode
    found = provider(web, name).search(SearchRequest(query="x"))
    assert isinstance(found, Observation)
    assert (found.kind, found.retry_after) == (kind, retry_after)
    assert found.next_step
    assert name in found.message


@pytest.mark.parametrize(("mode", "said"), [("422", "query is too long"), ("plain", "topic is not supported")])
def test_tavily_s_words_are_told_in_each_of_their_shapes(web: LocalWeb, mode: str, said: str) -> None:
    web.modes["tavily"] = mode
    found = provider(web, "tavily").search(SearchRequest(query="x"))
    assert isinstance(found, Observation)
    assert said in found.message


def test_brave_is_told_that_a_question_is_chinese(web: LocalWeb) -> None:
    """It looks among English pages unless a language is named."""
    ask(web, "brave", query="居住证遗失补办")
    assert "search_lang=zh-hans" in web.requests[-1][1]
    ask(web, "brave", query="lost permit")
    assert "search_lang" not in web.requests[-1][1]


def test_searxng_says_how_to_allow_json(web: LocalWeb) -> None:
    web.modes["searxng"] = "bad_key"
    found = provider(web, "searxng").search(SearchRequest(query="x"))
    assert isinstance(found, Observation)
    assert "settings.yml" in found.message


@pytest.mark.parametrize("name", NAMES)
def test_a_slow_service_ends_at_the_time_out(web: LocalWeb, name: str) -> None:
    web.modes[name] = "slow"
    found = provider(web, name, timeout_s=0.3).search(SearchRequest(query="x"))
    assert isinstance(found, Observation)
    assert found.kind is Kind.TIMEOUT


@pytest.mark.parametrize(("name", "mode"), [("tavily", "empty"), ("searxng", "empty"), ("tavily", "odd")])
def test_nothing_usable_is_an_empty_list(web: LocalWeb, name: str, mode: str) -> None:
    web.modes[name] = mode
    assert provider(web, name).search(SearchRequest(query="x")) == []


def test_a_key_that_the_service_repeats_is_struck_out(web: LocalWeb) -> None:
    web.modes["tavily"] = "echo"
    found = provider(web, "tavily").search(SearchRequest(query="x"))
    assert isinstance(found, Observation)
    assert "[key]" in found.message
    assert KEYS["TAVILY_API_KEY"] not in found.message


@pytest.mark.parametrize("name", NAMES)
def test_no_object_keeps_a_key(web: LocalWeb, name: str) -> None:
    made = provider(web, name)
    own = {k: v for k, v in vars(made).items() if k != "_env"}
    assert not any(key in str(own) for key in KEYS.values())
