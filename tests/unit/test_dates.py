"""Questions that name a time: what is read, and what it changes."""

from __future__ import annotations

import datetime as dt

import pytest

from smartmem.errors import ConfigError
from smartmem.rag.registry import create
from smartmem.rag.retrieve.dates import day_of, spans_of
from smartmem.rag.trace import tracing
from smartmem.rag.types import Chunk, Query

ASKED = dt.date(2023, 8, 20)


def day(text: str) -> dt.date:
    return dt.date.fromisoformat(text)


@pytest.mark.parametrize(
    ("question", "first", "last"),
    [
        ("Where was I in June 2022?", "2022-06-01", "2022-06-30"),
        ("What did John read on 5 November, 2022?", "2022-11-05", "2022-11-05"),
        ("What did I do last May?", "2023-05-01", "2023-05-31"),
        ("Which country did James visit in 2021?", "2021-01-01", "2021-12-31"),
        ("What did Ann buy last week?", "2023-08-10", "2023-08-16"),
        ("What did Ann buy yesterday?", "2023-08-19", "2023-08-19"),
        ("What happened two weeks ago?", "2023-08-03", "2023-08-09"),
        ("Where was Dave in the last two weeks of August 2023?", "2023-08-01", "2023-08-31"),
        ("我上周说了什么？", "2023-08-10", "2023-08-16"),
    ],
)
def test_times_are_read_as_days(question: str, first: str, last: str) -> None:
    assert spans_of(question, ASKED) == [(day(first), day(last))]


@pytest.mark.parametrize(
    "question",
    [
        "What may I not eat?",
        "Has Ann 2 cats and 3 dogs?",
        "Who came to my 18th birthday?",
        "Où est Paul ?",
        "",
        "我的猫叫什么？",
    ],
)
def test_what_is_no_time_is_none(question: str) -> None:
    assert spans_of(question, ASKED) == []


def test_a_turn_s_day_is_read_from_either_field() -> None:
    def turn(**metadata: str) -> Chunk:
        return Chunk(id="c", document_id="d", start=0, end=1, text="x", order=0, metadata=dict(metadata))

    assert day_of(turn(date="8 May, 2023")) == day("2023-05-08")
    assert day_of(turn(occurred_at="2023-05-09T23:00:00+00:00", date="8 May, 2023")) == day("2023-05-09")
    assert day_of(turn(date="2023年5月8日")) == day("2023-05-08")
    assert day_of(turn(date="May")) is None
    assert day_of(turn()) is None


def turns() -> list[Chunk]:
    dates = ("3 May, 2023", "20 June, 2023", "5 July, 2023", "30 December, 2023")
    return [
        Chunk(
            id=f"c{n}", document_id=f"d{n}", start=0, end=1, text="We went camping.", order=n, metadata={"date": date}
        )
        for n, date in enumerate(dates)
    ]


def test_what_was_said_then_or_soon_after_comes_first() -> None:
    dated = create("retriever", {"name": "dates", "base": "bm25", "slack_days": 14})
    undated = Chunk(
        id="c9",
        document_id="d9",
        start=0,
        end=1,
        text="Camping? Not for us, said the others who stayed at home.",
        order=9,
    )
    dated.index([*turns(), undated])
    with tracing() as stages:
        hits = dated.retrieve(Query(text="When did they go camping in June?"), 5)
    assert [hit.chunk.id for hit in hits[:2]] == ["c1", "c2"]
    assert hits[0].reasons["dated"] > 0
    assert stages[-1].note == "2023-06-01 … 2023-06-30"
    asked_later = dated.retrieve(Query(text="camping in June", at=dt.datetime(2025, 8, 1, tzinfo=dt.UTC)), 5)
    assert not any("dated" in hit.reasons for hit in asked_later), "June is that of the year in which it is asked"


def test_a_question_without_a_time_keeps_the_order() -> None:
    base = create("retriever", "bm25")
    dated = create("retriever", {"name": "dates", "base": "bm25"})
    for retriever in (base, dated):
        retriever.index(turns())
    asked = Query(text="Where did they go camping?")
    assert dated.retrieve(asked, 9) == base.retrieve(asked, 9)


def test_a_stretch_of_dialogue_is_no_question_about_a_time() -> None:
    dated = create("retriever", {"name": "dates", "base": "bm25"})
    dated.index(turns())
    said = "We went camping in June, and it was wonderful. "
    with tracing() as stages:
        hits = [dated.retrieve(Query(text=said * times), 9) for times in (1, 8)]
    assert [any("dated" in hit.reasons for hit in found) for found in hits] == [True, False]
    assert "longer than a question" in stages[-1].note


def test_senseless_options_are_refused() -> None:
    for options in ({"weight": -1}, {"slack_days": -1}, {"depth": 0}, {"longest": -1}):
        with pytest.raises(ConfigError, match=r"weight = .* slack_days = .* depth = "):
            create("retriever", {"name": "dates", "base": "bm25", **options})
