"""The target of issue G: stage 2 finds at least 20 points more gold evidence than the snippets of stage 1."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from smartmem.errors import BadRecord, Unmeasurable
from smartmem.evaluation.web_stages import METRICS, compare_stages
from smartmem.web.local import LocalWeb
from smartmem.web.local.questions import Question, load_questions


@pytest.fixture(scope="module")
def web() -> Iterator[LocalWeb]:
    with LocalWeb() as running:
        yield running


@pytest.fixture(scope="module")
def questions(web: LocalWeb) -> list[Question]:
    return web.questions()


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
    # The longest snippets of the three services: the hardest stage 1 to beat.
    rag = web.rag("tavily", budget_s=120.0)  # what is measured is what is found, not how busy the machine is
    found = compare_stages(questions, {"snippets": web.search("tavily"), "pages": rag})
    gain = found.paired("evidence", "pages", "snippets")
    assert gain.difference >= 0.20
    assert gain.lo is not None
    assert gain.lo > 0
    rows = {metric: found.rows(metric) for metric in METRICS}
    assert rows["evidence"]["pages"]["mean"] >= 0.90
    assert rows["evidence"]["pages"]["queries"] == len(questions)
    assert rows["answer"]["pages"]["mean"] >= rows["answer"]["snippets"]["mean"]
    assert rows["wrong_source"]["pages"]["mean"] <= rows["wrong_source"]["snippets"]["mean"]
    assert rows["wrong_source"]["pages"]["queries"] == sum(bool(question.wrong) for question in questions)
    for metric in METRICS:
        assert all(row["lo"] <= row["mean"] <= row["hi"] for row in rows[metric].values())
    assert found.latency("pages", 0.5) <= found.latency("pages", 0.95)
    assert [(row["arm"], row["from_snippets"]) for row in found.table()] == [("snippets", len(questions)), ("pages", 0)]
    assert rag.index.sessions() == []


def test_nothing_to_measure_is_an_error(web: LocalWeb, questions: list[Question], tmp_path: Path) -> None:
    with pytest.raises(Unmeasurable):
        compare_stages([], {"snippets": web.search()})
    plain = [question for question in questions if not question.wrong][:2]
    with pytest.raises(Unmeasurable, match="wrong_source"):
        compare_stages(plain, {"snippets": web.search("searxng")}).rows("wrong_source")
    broken = tmp_path / "q.jsonl"
    broken.write_text('{"id": 1}\n', "utf-8")
    with pytest.raises(BadRecord, match="line 1"):
        load_questions(broken)
