"""web_rag_search: evidence verbatim from pages, sessions apart, and a word for every fallback."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest

from smartmem.errors import ConfigError, ScopeError, TransientModelError
from smartmem.rag.embed.mock import MockEmbedder
from smartmem.rag.protocols import Vectors
from smartmem.settings import WebRagSettings
from smartmem.web.fetch import WebFetcher
from smartmem.web.providers import make_providers
from smartmem.web.rag_search import WebRagSearch
from smartmem.web.search import WebSearch
from smartmem.web.types import Kind
from tests.support.local_web import KEYS, TODAY, LocalWeb

FARE = "青云地铁现在的起步价是多少？"


@pytest.fixture(scope="module")
def server() -> Iterator[LocalWeb]:
    with LocalWeb() as running:
        yield running


@pytest.fixture
def web(server: LocalWeb) -> LocalWeb:
    server.reset()
    server.clock.advance((TODAY - server.clock.now()).total_seconds())
    return server


def make(web: LocalWeb, *, fetch: dict[str, Any] | None = None, **changes: Any) -> WebRagSearch:
    injected = {key: changes.pop(key) for key in ("embedder", "rewriter") if key in changes}
    settings = web.search_settings("tavily")
    search = WebSearch(settings, providers=make_providers(settings, clock=web.clock, env=KEYS), clock=web.clock)
    fetcher = WebFetcher(web.fetch_settings(**(fetch or {})), resolver=web.resolver, clock=web.clock)
    return WebRagSearch(search, fetcher, WebRagSettings(**changes), clock=web.clock, **injected)


def fetched(web: LocalWeb) -> list[str]:
    return [f"{host}{path}" for host, path in web.requests if host.endswith(".test")]


def test_evidence_stands_verbatim_in_its_page(web: LocalWeb) -> None:
    answer = make(web).ask(FARE, "s1")
    assert answer.stage == 2
    assert answer.fallback_reason == ""
    assert answer.sub_queries == (FARE, "青云地铁 起步价是 2026")
    assert answer.pages_fetched > 1
    assert len(answer.answer_evidence) == 5
    assert any("起步价为三元" in e.text for e in answer.answer_evidence)
    fetcher = WebFetcher(web.fetch_settings(), resolver=web.resolver, clock=web.clock)
    for evidence in answer.answer_evidence:
        page = fetcher.fetch(evidence.url).page
        assert page
        assert page.text[evidence.start : evidence.end] == evidence.text
        assert evidence.title == page.title
        assert evidence.domain == page.domain
        assert evidence.published_at == page.published_at
        assert evidence.fetched_at == TODAY
        assert evidence.source_rank >= 1
    scores = [e.score for e in answer.answer_evidence]
    assert scores == sorted(scores, reverse=True)


def test_the_same_question_gets_the_same_evidence(web: LocalWeb) -> None:
    first, second = make(web).ask(FARE, "a"), make(web).ask(FARE, "b")
    assert first.answer_evidence == second.answer_evidence
    assert first.query_id != second.query_id


def test_an_embedder_makes_retrieval_hybrid(web: LocalWeb) -> None:
    answer = make(web, embedder=MockEmbedder(dim=32)).ask(FARE, "s1")
    assert answer.stage == 2
    assert answer.notes == ()
    assert make(web).ask(FARE, "s1").notes == ("no embedder, retrieval is lexical (bm25)",)
    assert make(web, retriever={"name": "bm25"}).ask(FARE, "s1").notes == ()


def test_pages_are_fetched_once_in_a_session(web: LocalWeb) -> None:
    rag = make(web)
    rag.ask(FARE, "s1")
    once = fetched(web)
    assert len(once) == len(set(once))
    again = rag.ask("学生坐青云地铁打几折？", "s1")
    assert any("五折" in e.text for e in again.answer_evidence)
    assert len(fetched(web)) == len(set(fetched(web)))
    rag.ask(FARE, "s2")
    assert len(fetched(web)) > len(set(fetched(web)))


def test_nothing_of_another_session_is_ever_evidence(web: LocalWeb) -> None:
    rag = make(web)
    questions = {
        f"s{i}": q for i, q in enumerate([FARE, "白鹭湖越冬的黑脸琵鹭有多少只？", "How does salt change pasta?"])
    }
    threads = [threading.Thread(target=rag.ask, args=(q, s)) for s, q in questions.items() for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for session, question in questions.items():
        own = rag.ask(question, session)
        named = {unquote(result.url) for search in own.searches for result in search.results}
        # Asked for everybody's subjects, a session knows its own pages only.
        found = rag.index.search(session, " ".join(questions.values()), 50).hits
        assert found
        assert {str(hit.chunk.metadata["session_id"]) for hit in found} == {session}
        assert {unquote(str(hit.chunk.metadata["url"])) for hit in found} <= named
        assert {unquote(evidence.url) for evidence in own.answer_evidence} <= named


def test_an_empty_session_is_refused(web: LocalWeb) -> None:
    rag = make(web)
    for call in (lambda: rag.ask(FARE, " "), lambda: rag.index.search("", "x", 1), lambda: rag.index.drop("")):
        with pytest.raises(ScopeError, match="session_id"):
            call()
    assert not web.requests


def test_a_session_ends_with_its_time_to_live(web: LocalWeb) -> None:
    rag = make(web, ttl_s=60)
    rag.ask(FARE, "old")
    web.clock.advance(59)
    rag.ask(FARE, "new")
    assert rag.index.sessions() == ["old", "new"]
    web.clock.advance(2)
    assert rag.index.sessions() == ["new"]
    assert not rag.index.search("old", FARE, 5).hits


def test_the_longest_idle_session_goes_first_past_the_limit(web: LocalWeb) -> None:
    rag = make(web, max_sessions=2)
    for session in ("a", "b", "a", "c"):
        rag.index.search(session, "x", 1)
    assert rag.index.sessions() == ["a", "c"]
    rag.index.drop("a")
    rag.index.drop("a")
    assert rag.index.sessions() == ["c"]


def test_copies_of_an_article_are_one_piece_of_evidence(web: LocalWeb) -> None:
    answer = make(web, credibility={"zhuanzai.test": -1}).ask("青云市地铁七号线一共有多少座车站？", "s1")
    texts = [e.text for e in answer.answer_evidence if "二十一座车站" in e.text]
    assert len(texts) == 1
    assert next(e for e in answer.answer_evidence if "二十一座车站" in e.text).domain == "qingyun-daily.test"


def test_credibility_and_freshness_are_light_weights(web: LocalWeb) -> None:
    question = "一类区道路停车怎么收费？"
    plain = make(web, credibility_weight=0, freshness_weight=0).ask(question, "s1")
    assert all(e.score <= 1 for e in plain.answer_evidence)
    weighed = make(web, credibility={"zhuanzai.test": -1}).ask(question, "s1")
    best = weighed.answer_evidence[0]
    assert best.url == "http://www.qingyun.gov.test/policy/parking-2026.html"
    assert best.reasons["credibility"] == 1.0
    assert best.score == pytest.approx(
        best.reasons["relevance"] + 0.2 * best.reasons["credibility"] + 0.2 * best.reasons["freshness"]
    )


def test_domain_and_recency_reach_the_search(web: LocalWeb) -> None:
    answer = make(web).ask(FARE, "s1", domain_allow=["qingyun-metro.test"], recency_days=60)
    assert {e.domain for e in answer.answer_evidence} == {"qingyun-metro.test"}
    assert "http://qingyun-metro.test/fares/2022" not in {e.url for e in answer.answer_evidence}


def test_search_that_fails_is_stage_one_without_evidence(web: LocalWeb) -> None:
    web.modes["tavily"] = "down"
    answer = make(web).ask(FARE, "s1")
    assert (answer.stage, answer.answer_evidence) == (1, ())
    assert "search gave nothing" in answer.fallback_reason
    assert {o.kind for o in answer.observations} == {Kind.UNREACHABLE}


def test_search_that_hangs_ends_within_the_budget(web: LocalWeb) -> None:
    web.modes["tavily"] = "slow"
    started = time.monotonic()
    answer = make(web, budget_s=0.6).ask(FARE, "s1")
    assert time.monotonic() - started < 1.6
    assert {o.kind for o in answer.observations} == {Kind.TIMEOUT}


def test_pages_that_cannot_be_read_fall_back_to_snippets(web: LocalWeb) -> None:
    answer = make(web, fetch={"allow": ()}).ask(FARE, "s1")
    assert answer.stage == 1
    assert "pages could be read" in answer.fallback_reason
    assert {o.kind for o in answer.observations} == {Kind.BLOCKED_ADDRESS}
    assert 0 < len(answer.answer_evidence) <= 5
    assert [e.source_rank for e in answer.answer_evidence] == list(range(1, len(answer.answer_evidence) + 1))
    first = answer.searches[0].results[0]
    assert (answer.answer_evidence[0].text, answer.answer_evidence[0].url) == (first.snippet, first.url)


def test_without_a_fetcher_snippets_are_the_evidence(web: LocalWeb) -> None:
    settings = web.search_settings("tavily")
    search = WebSearch(settings, providers=make_providers(settings, clock=web.clock, env=KEYS))
    answer = WebRagSearch(search, None).ask(FARE, "s1")
    assert (answer.stage, answer.fallback_reason) == (1, "web_fetch is switched off")
    assert answer.answer_evidence


def test_one_bad_page_does_not_spoil_the_others(web: LocalWeb, monkeypatch: pytest.MonkeyPatch) -> None:
    page = web.pages["luntan.test/thread/19877"]
    monkeypatch.setitem(web.pages, page.id, replace(page, html=b"<p>" + bytes(range(0x80, 0x100)) * 40))
    answer = make(web).ask(FARE, "s1")
    assert answer.stage == 2
    assert {o.kind for o in answer.observations} == {Kind.BROKEN_CHARSET}


class Failing:
    """An embedder whose server is away."""

    dim, fingerprint = 4, "failing"

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        raise TransientModelError("embedding server answered 503")

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        return np.zeros((len(texts), 4), dtype=np.float32)


def test_retrieval_that_fails_falls_back_to_snippets(web: LocalWeb) -> None:
    answer = make(web, embedder=Failing()).ask(FARE, "s1")
    assert answer.stage == 1
    assert answer.fallback_reason == "retrieval failed: TransientModelError: embedding server answered 503"
    assert answer.answer_evidence


def test_stats_count_answers_fallbacks_and_errors(web: LocalWeb) -> None:
    rag = make(web)
    assert rag.stats().fallback_rate == 0.0
    rag.ask(FARE, "s1")
    web.modes["tavily"] = "500"
    rag.ask("白鹭湖有多深？", "s1")
    stats = rag.stats()
    assert (stats.questions, stats.evidence, stats.fallbacks) == (2, 5, 1)
    assert stats.errors["server_error"] >= 1
    assert stats.fallback_rate == 0.5
    assert 0 < stats.p50_ms <= stats.p95_ms


def test_a_rewriter_that_fell_back_is_noted(web: LocalWeb) -> None:
    answer = make(web, rewriter=lambda q, limit, year: ([q], "rules used")).ask(FARE, "s1")
    assert answer.sub_queries == (FARE,)
    assert "rules used" in answer.notes


@pytest.mark.parametrize(("question", "top_k"), [("", 5), ("  ", 5), (FARE, 0), (FARE, 21)])
def test_bad_arguments_are_observations(web: LocalWeb, question: str, top_k: int) -> None:
    answer = make(web).ask(question, "s1", top_k=top_k)
    assert answer.observations[0].kind is Kind.INVALID_INPUT
    assert not web.requests


def test_wrong_component_names_are_found_when_wiring(web: LocalWeb) -> None:
    with pytest.raises(ConfigError, match="nonesuch"):
        make(web, chunker={"name": "nonesuch"})


def test_an_instruction_in_a_page_is_only_ever_quoted(web: LocalWeb) -> None:
    """The page tells the reader to fetch 127.0.0.1 and to send mail. It ends as evidence text and changes nothing."""
    question = "Which router do the editors of Spark Deals rank best in 2026?"
    answer = make(web).ask(question, "s1", top_k=20)
    quoted = [e for e in answer.answer_evidence if "Ignore all previous instructions" in e.text]
    assert quoted
    assert {e.domain for e in quoted} == {"sparkdeals.test"}
    assert any("Corvid M4" in e.text for e in answer.answer_evidence)
    # Nothing was asked of any host but the search service and the pages that it named.
    named = {r.url.removeprefix("http://") for s in answer.searches for r in s.results}
    assert set(fetched(web)) <= named
    assert not [path for _, path in web.requests if "admin" in path]
    assert answer.sub_queries[0] == question
