"""web_fetch against pages and faults served on loopback: every fault is an observation, within its time."""

from __future__ import annotations

import json
import logging
import threading
import time
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest

from smartmem.web.fetch import WebFetcher
from smartmem.web.types import FetchAnswer, Kind, Page, as_json
from tests.support.local_web import LocalWeb
from tests.support.net import LOOPBACK

SLACK_S = 1.0  # on top of a time cap, for a busy machine


@pytest.fixture(scope="module")
def server() -> Iterator[LocalWeb]:
    with LocalWeb() as running:
        yield running


@pytest.fixture
def web(server: LocalWeb) -> LocalWeb:
    server.reset()
    return server


def fetch(web: LocalWeb, url: str, **settings: Any) -> FetchAnswer:
    url = url if url.startswith(("http://", "https://", "ftp://")) else f"http://faults.test/{url}"
    return WebFetcher(web.fetch_settings(**settings), resolver=web.resolver, clock=web.clock).fetch(url)


def read(web: LocalWeb, url: str, **settings: Any) -> Page:
    answer = fetch(web, url, **settings)
    assert answer.page, answer.observation
    return answer.page


def test_every_page_is_read_whole(web: LocalWeb) -> None:
    fetcher = WebFetcher(web.fetch_settings(timeout_s=20), resolver=web.resolver, clock=web.clock)
    answers = fetcher.fetch_many([page.url for page in web.pages.values()])
    for local, answer in zip(web.pages.values(), answers, strict=True):
        assert answer.page, answer.observation
        assert [p for p in local.paragraphs if p not in answer.page.text] == []
        assert answer.page.title == local.title
        assert answer.page.language == ("zh" if local.title > "z" else "en")
        assert answer.page.fetched_at == web.clock.now()
        dated = answer.page.published_at
        assert dated is None or abs((dated.date() - type(dated.date()).fromisoformat(local.date)).days) <= 1
    assert {a.page.charset for a in answers if a.page} == {"utf-8", "gb18030", "cp1252"}


def test_max_chars_cuts_and_says_so(web: LocalWeb) -> None:
    url = "http://qingyun-metro.test/fares/2026"
    fetcher = WebFetcher(web.fetch_settings(), resolver=web.resolver)
    page = fetcher.fetch(url, max_chars=50).page
    assert page
    assert (len(page.text), page.truncated) == (50, True)
    assert read(web, url).truncated is False
    assert len(read(web, url, max_chars=60).text) == 60


@pytest.mark.parametrize("name", ["gzip", "gzip-members", "gzip-padded", "deflate", "raw-deflate"])
def test_packed_pages_are_unpacked(web: LocalWeb, name: str) -> None:
    assert "渡轮停了一天" in read(web, name).text


@pytest.mark.parametrize(
    ("name", "charset"),
    [
        ("gbk-undeclared", "gb18030"),
        ("gbk-as-utf8", "gb18030"),
        ("utf8-as-latin1", "utf-8"),
        ("utf16", "utf-16"),
        ("unknown-charset", "utf-8"),
        ("codec-trap", "utf-8"),
        ("plain", "utf-8"),
    ],
)
def test_character_sets(web: LocalWeb, name: str, charset: str) -> None:
    page = read(web, name)
    assert "渡轮停了一天，第二天又开了。" in page.text
    assert page.charset == charset


def test_a_deeply_nested_page_does_not_break_the_parser(web: LocalWeb) -> None:
    answer = fetch(web, "deep")
    assert answer.page or answer.observation


@pytest.mark.parametrize(
    ("name", "kind", "status"),
    [
        ("404", Kind.NOT_FOUND, 404),
        ("410", Kind.NOT_FOUND, 410),
        ("400", Kind.CLIENT_ERROR, 400),
        ("418", Kind.CLIENT_ERROR, 418),
        ("401", Kind.FORBIDDEN, 401),
        ("403", Kind.FORBIDDEN, 403),
        ("451", Kind.FORBIDDEN, 451),
        ("429", Kind.RATE_LIMITED, 429),
        ("500", Kind.SERVER_ERROR, 500),
        ("503", Kind.SERVER_ERROR, 503),
        ("204", Kind.BAD_RESPONSE, 204),
        ("304", Kind.BAD_RESPONSE, 304),
        ("pdf", Kind.NOT_HTML, 200),
        ("json", Kind.NOT_HTML, 200),
        ("not-gzip", Kind.BAD_RESPONSE, None),
        ("brotli", Kind.BAD_RESPONSE, None),
        ("scripts-only", Kind.NO_TEXT, None),
        ("empty", Kind.NO_TEXT, None),
        ("broken-charset", Kind.BROKEN_CHARSET, None),
        ("loop", Kind.TOO_MANY_REDIRECTS, None),
        ("declared", Kind.TOO_LARGE, None),
        ("big", Kind.TOO_LARGE, None),
        ("bomb", Kind.TOO_LARGE, None),
        ("double-bomb", Kind.BAD_RESPONSE, None),
        ("http://nowhere.example/", Kind.DNS_ERROR, None),
        ("ftp://faults.test/x", Kind.INVALID_INPUT, None),
        ("http://u:p@faults.test/x", Kind.INVALID_INPUT, None),
    ],
)
def test_faults_are_observations(web: LocalWeb, name: str, kind: Kind, status: int | None) -> None:
    started = time.monotonic()
    answer = fetch(web, name)
    assert time.monotonic() - started < 5 + SLACK_S
    assert answer.page is None
    assert answer.observation
    assert (answer.observation.kind, answer.observation.status) == (kind, status)
    assert answer.observation.next_step
    json.dumps(as_json(answer))


@pytest.mark.parametrize("name", ["hang", "drip-header", "drip-body"])
def test_slow_pages_end_at_the_time_cap(web: LocalWeb, name: str) -> None:
    started = time.monotonic()
    answer = fetch(web, name, timeout_s=0.4)
    assert time.monotonic() - started < 0.4 + SLACK_S
    assert answer.observation
    assert answer.observation.kind is Kind.TIMEOUT
    assert answer.observation.retryable


def test_a_name_server_that_hangs_ends_at_the_time_cap(web: LocalWeb) -> None:
    stop = threading.Event()

    def resolver(host: str, port: int) -> list[tuple[str, int]]:
        stop.wait(20)
        return [(host, port)]

    started = time.monotonic()
    answer = WebFetcher(web.fetch_settings(timeout_s=0.3), resolver=resolver).fetch("http://slow.test/")
    stop.set()
    assert time.monotonic() - started < 0.3 + SLACK_S
    assert answer.observation
    assert answer.observation.kind is Kind.TIMEOUT


@pytest.mark.parametrize("name", ["big", "bomb"])
def test_floods_are_not_held_in_memory(web: LocalWeb, name: str) -> None:
    fetcher = WebFetcher(web.fetch_settings(max_bytes=1_000_000), resolver=web.resolver)
    fetcher.fetch("http://faults.test/plain")  # imports are not what is measured
    tracemalloc.start()
    try:
        answer = fetcher.fetch(f"http://faults.test/{name}")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert answer.observation
    assert answer.observation.kind is Kind.TOO_LARGE
    # The server's own 50 MB (the bomb before packing) are in this process too; the client must add little to them.
    assert peak < (8_000_000 if name == "big" else 62_000_000)


@pytest.mark.parametrize(
    ("value", "seconds"), [("7", 7.0), ("Sat,%2001%20Aug%202026%2009:00:30%20GMT", 30.0), ("soon", None)]
)
def test_retry_after(web: LocalWeb, value: str, seconds: float | None) -> None:
    answer = fetch(web, f"429?wait={value}")
    assert answer.observation
    assert answer.observation.retry_after == seconds


@pytest.mark.parametrize(
    "target",
    [
        f"http://{LOOPBACK}:9/admin",
        "http://localhost/",
        "http://169.254.169.254/latest/meta-data/",
        "http://10.0.0.1/",
        "http://100.100.100.200/",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://2130706433/",
        "http://0x7f.1/",
    ],
)
def test_addresses_off_the_internet_are_refused_also_after_a_redirect(web: LocalWeb, target: str) -> None:
    fetcher = WebFetcher(web.fetch_settings(), resolver=_local_or_system(web))
    for url in (target, f"http://faults.test/redirect?to={target}"):
        answer = fetcher.fetch(url)
        assert answer.observation
        assert answer.observation.kind is Kind.BLOCKED_ADDRESS, answer.observation
        assert not answer.observation.retryable
    assert answer.hops[0].startswith("http://faults.test/redirect")
    assert len(answer.hops) == 2


def _local_or_system(web: LocalWeb) -> Any:
    from smartmem.web.guard import system_resolver

    return lambda host, port: web.resolver(host, port) if host.endswith(".test") else system_resolver(host, port)


@pytest.mark.parametrize("target", ["file:///etc/passwd", "gopher://faults.test/", "http://u@faults.test/"])
def test_redirects_to_other_schemes_are_refused(web: LocalWeb, target: str) -> None:
    answer = fetch(web, f"redirect?to={target}")
    assert answer.observation
    assert answer.observation.kind is Kind.INVALID_INPUT


def test_redirects_are_followed_and_named(web: LocalWeb) -> None:
    answer = fetch(web, "redirect?to=/redirect%3Fto=http://qingyun-metro.test/lines/7")
    assert answer.page
    assert answer.page.final_url == "http://qingyun-metro.test/lines/7"
    assert answer.page.url.startswith("http://faults.test/redirect")
    assert len(answer.hops) == 3


def test_a_name_that_changes_its_address_gains_nothing(web: LocalWeb) -> None:
    """DNS rebinding: the answer that was checked is the one that is connected to; nobody asks again."""
    asked: list[str] = []

    def resolver(host: str, port: int) -> list[tuple[str, int]]:
        asked.append(host)
        return [("203.0.113.1", 80)] if len(asked) > 1 else [(LOOPBACK, web.port)]

    answer = WebFetcher(web.fetch_settings(), resolver=resolver).fetch("http://qingyun-metro.test/lines/7")
    assert answer.page
    assert asked == ["qingyun-metro.test"]


def test_one_private_address_in_the_answer_refuses_all_of_it(web: LocalWeb) -> None:
    fetcher = WebFetcher(web.fetch_settings(), resolver=lambda h, p: [(LOOPBACK, web.port), ("10.0.0.1", 80)])
    observation = fetcher.fetch("http://mixed.test/").observation
    assert observation
    assert observation.kind is Kind.BLOCKED_ADDRESS
    assert not web.requests


def test_without_the_allow_list_loopback_is_refused(web: LocalWeb) -> None:
    answer = fetch(web, "http://qingyun-metro.test/lines/7", allow=())
    assert answer.observation
    assert answer.observation.kind is Kind.BLOCKED_ADDRESS
    assert not web.requests


def test_nobody_listening_is_unreachable(web: LocalWeb) -> None:
    fetcher = WebFetcher(web.fetch_settings(allow=(LOOPBACK,)), resolver=lambda h, p: [(LOOPBACK, 9)])
    observation = fetcher.fetch("http://closed.test/").observation
    assert observation
    assert observation.kind is Kind.UNREACHABLE


def test_pages_are_fetched_side_by_side_within_a_budget(web: LocalWeb) -> None:
    fetcher = WebFetcher(web.fetch_settings(concurrency=2), resolver=web.resolver)
    urls = ["http://faults.test/hang"] * 4 + ["http://faults.test/plain"]
    started = time.monotonic()
    answers = fetcher.fetch_many(urls, budget_s=0.5)
    assert time.monotonic() - started < 0.5 + SLACK_S
    assert [a.url for a in answers] == urls
    assert {a.observation.kind for a in answers if a.observation} == {Kind.TIMEOUT}


def test_no_page_text_is_logged(web: LocalWeb, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        read(web, "plain")
    assert "渡轮" not in caplog.text
    assert [r.outcome for r in caplog.records if r.name.startswith("smartmem")] == ["ok"]  # type: ignore[attr-defined]
