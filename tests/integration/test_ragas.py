"""ragas behind its adapter: without a model, with a scripted judge, and with one that talks nonsense."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from smartmem.errors import ConfigError, Unmeasurable
from smartmem.evaluation.ragas_adapter import NO_MODEL, AnswerSample, Judge, score_samples
from tests.support.openai_server import OpenAIServer, Request, not_json, ok

pytest.importorskip("ragas", reason="ragas is not installed: pip install 'smartmem[ragas]'")
# ragas 0.4.3 leaves its own settings file open.
pytestmark = pytest.mark.filterwarnings(
    r"ignore:Exception ignored in.*ragas/uuid\.json:pytest.PytestUnraisableExceptionWarning"
)

GOOD = AnswerSample(
    id="good",
    question="Where do I live?",
    response="Bristol",
    reference="Bristol",
    contexts=("I live in Bristol.", "I like tea."),
    reference_contexts=("I live in Bristol.",),
    context_ids=("1", "2"),
    reference_ids=("1",),
    human=1.0,
)
BAD = AnswerSample(
    id="bad",
    question="我住在哪里？",
    response="杭州",
    reference="苏州",
    contexts=("我喜欢喝茶。",),
    reference_contexts=("我住在苏州。",),
    reference_ids=("9",),
    human=0.0,
)
BARE = AnswerSample(id="bare")


def judge(server: OpenAIServer, **changes: Any) -> Judge:
    return Judge(model="m", base_url=server.base_url, max_retries=0, **changes)


def test_metrics_without_a_model_count_what_they_cannot_score() -> None:
    reports = score_samples([GOOD, BAD, BARE], NO_MODEL)
    assert set(reports) == set(NO_MODEL)
    for report in reports.values():
        assert report.counts == {"scored": 2, "ineligible": 1, "failed": 0, "not_run": 0}
        assert report.rows[0].value > report.rows[1].value
        assert "the sample has no" in report.rows[2].reason
    precision = reports["id_context_precision"]
    assert precision.rows[0].value == 0.5  # plain precision of the ids, whatever their order
    assert precision.rows[1].value == 0.0  # nothing retrieved is the worst answer, not a missing one
    assert reports["exact_match"].mean == 0.5


def test_agreement_with_human_labels() -> None:
    middle = AnswerSample(id="m", response="Bristol!", reference="Bristol", human=0.5)
    report = score_samples([GOOD, BAD, middle], ["string_similarity"])["string_similarity"]
    assert report.agreement == pytest.approx(1.0)
    assert report.off is not None
    assert 0 <= report.off < 0.3
    assert score_samples([GOOD, BAD], ["string_similarity"])["string_similarity"].agreement is None


def rating(*values: int) -> Any:
    answers = iter(values)
    return lambda request: ok({"rating": next(answers)})


def test_a_judge_is_asked_again_and_its_spread_stands_beside_the_mean(openai_server: OpenAIServer) -> None:
    openai_server.chat.default = rating(4, 4, 2, 2, 0, 0)  # each answer is asked in two ways
    report = score_samples([GOOD], ["answer_accuracy"], judge=judge(openai_server), repeats=3)["answer_accuracy"]
    assert report.rows[0].values == (1.0, 0.5, 0.0)
    assert report.mean == 0.5
    assert report.spread == pytest.approx(0.5)
    assert len(openai_server.requests) == 6


def test_faithfulness_asks_for_statements_and_verdicts(openai_server: OpenAIServer) -> None:
    verdicts = [{"statement": "s", "reason": "r", "verdict": v} for v in (1, 0)]
    openai_server.chat.script(ok({"statements": ["a", "b"]}), ok({"statements": verdicts}))
    report = score_samples([GOOD], ["faithfulness"], judge=judge(openai_server))["faithfulness"]
    assert report.mean == 0.5


def test_an_unreadable_answer_is_a_failed_sample_that_counts_0(openai_server: OpenAIServer) -> None:
    def answer(request: Request) -> Any:
        return not_json() if "Where do I live" in request.prompt else ok({"rating": 4})

    openai_server.chat.default = answer
    report = score_samples([GOOD, BAD], ["answer_accuracy"], judge=judge(openai_server))["answer_accuracy"]
    assert report.counts["failed"] == 1
    assert report.counts["scored"] == 1
    assert report.mean == 0.5  # not 1.0, which is what ragas' own mean over the readable rows would say
    assert report.rows[0].reason


def test_meanings_are_compared_by_the_endpoints_embeddings(openai_server: OpenAIServer) -> None:
    asked = judge(openai_server, embedding_model="e")
    report = score_samples([GOOD, BAD], ["semantic_similarity"], judge=asked)["semantic_similarity"]
    assert report.rows[0].value == pytest.approx(1.0)
    assert report.rows[1].value < 0.999


def test_it_works_inside_a_running_loop() -> None:
    async def notebook() -> float | None:
        return score_samples([GOOD], ["exact_match"])["exact_match"].mean

    assert asyncio.run(notebook()) == 1.0


def test_what_cannot_be_asked_is_refused_before_anything_runs() -> None:
    with pytest.raises(ConfigError, match="unknown ragas metric 'goodness'; known are: id_context"):
        score_samples([GOOD], ["goodness"])
    with pytest.raises(ConfigError, match="asks a model: give judge"):
        score_samples([GOOD], ["faithfulness"])
    with pytest.raises(ConfigError, match="embedding_model"):
        score_samples([GOOD], ["semantic_similarity"], judge=Judge(model="m"))
    with pytest.raises(Unmeasurable, match="no sample"):
        score_samples([], ["exact_match"])
