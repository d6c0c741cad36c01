"""The target of issue G: stage 2 finds at least 20 points more gold evidence than the snippets of stage 1."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from smartmem.errors import BadRecord, Unmeasurable
from smartmem.settings import WebRagSettings
from smartmem.web.fetch import WebFetcher
from smartmem.web.measure import Question, compare, load_questions
from smartmem.web.providers import make_providers
from smartmem.web.rag_search import WebRagSearch
from smartmem.web.search import WebSearch
from tests.support.local_web import DATA, KEYS, LocalWeb


@pytest.fixture(scope="module")
def web() -> Iterator[LocalWeb]:
    with LocalWeb() as running:
        yield running


@pytest.fixture(scope="module")
def questions(web: LocalWeb) -> list[Question]:
    return load_questions(DATA / "questions.jsonl", web.copies())


def test_the_local_web_keeps_what_its_card_promises(web: LocalWeb, questions: list[Question]) -> None:
    languages = Counter("zh" if any("一" <= c <= "鿿" for c in p.title) else "en" for p in web.pages.values())
    assert languages["zh"] >= 30
    assert languages["en"] >= 30
    assert len({p.host for p in web.pages.values()}) >= 15
    assert {p.charset for p in web.pages.values()} >= {"utf-8", "gbk", "gb2312", "gb18030", "windows-1252"}
    assert sum("Ignore all previous instructions" in "".join(p.paragraphs) for p in web.pages.values()) == 1
    assert len(web.copies()) >= 2
    assert len(questions) >= 40
    assert len({q.id for q in questions}) == len(questions)
    for question in questions:
        for gold in question.gold:
            assert any(gold.sentence in paragraph for paragraph in web.pages[gold.pages[0]].paragraphs), question.id
        assert set(question.wrong) <= set(web.pages), question.id
        assert not set(question.wrong) & {page for gold in question.gold for page in gold.pages}
        stands = [g.sentence for g in question.gold if question.answer in g.sentence]
        assert stands, question.id


def test_stage_two_beats_the_snippets_by_twenty_points(web: LocalWeb, questions: list[Question]) -> None:
    settings = web.search_settings("tavily")  # the longest snippets of the three: the hardest stage 1 to beat
    search = WebSearch(settings, providers=make_providers(settings, clock=web.clock, env=KEYS), clock=web.clock)
    fetcher = WebFetcher(web.fetch_settings(), resolver=web.resolver, clock=web.clock)
    rag = WebRagSearch(search, fetcher, WebRagSettings(), clock=web.clock)
    found = compare(questions, search, rag)
    assert found.stage1.n == found.stage2.n == len(questions)
    assert found.gain >= 0.20
    assert found.gain_low > 0
    assert found.stage2.evidence_recall >= 0.90
    assert found.stage2.answer_recall >= found.stage1.answer_recall
    assert found.stage2.wrong_source_rate <= found.stage1.wrong_source_rate
    assert all(o.stage == 2 for o in found.outcomes2)
    assert rag.index.sessions() == []


def test_nothing_to_measure_is_an_error(web: LocalWeb, tmp_path: Path) -> None:
    search = WebSearch(providers=[])
    with pytest.raises(Unmeasurable):
        compare([], search, WebRagSearch(search, None, WebRagSettings()))
    broken = tmp_path / "q.jsonl"
    broken.write_text('{"id": 1}\n', "utf-8")
    with pytest.raises(BadRecord, match="line 1"):
        load_questions(broken)
