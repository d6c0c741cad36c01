"""No-answer gating on a real run of the tiny corpus."""

from dataclasses import replace
from pathlib import Path

import pytest

from smartmem.errors import ConfigError, Unmeasurable
from smartmem.evaluation.gating import gating_curve
from smartmem.evaluation.results import RunResult
from smartmem.evaluation.runner import run_suite
from tests.support.evaluation import small_suite


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    return run_suite(small_suite(tmp_path_factory.mktemp("cache"), latency_queries=0))


def test_a_curve_runs_from_all_answers_to_silence(run: RunResult) -> None:
    curve = gating_curve(run, "bm25")
    assert curve.answerable + curve.unanswerable == len(run.per_query) / 2
    answered, silent = [p.answered for p in curve.points], [p.silent for p in curve.points]
    assert answered == sorted(answered, reverse=True)
    assert silent == sorted(silent)
    assert curve.auc_lo is not None
    assert curve.auc_hi is not None
    assert curve.auc_lo <= curve.auc <= curve.auc_hi
    assert curve.best.balanced >= max(p.balanced for p in curve.points[:1])
    assert curve.reported is not None
    assert curve.reported.threshold == curve.best.threshold


def test_the_area_is_the_share_of_pairs_in_the_right_order(run: RunResult) -> None:
    for arm in ("mock", "bm25"):
        frame = run.per_query[run.per_query["arm"] == arm]
        best = [(row["category"] == "no_answer", row["scores"][0]) for _, row in frame.iterrows() if len(row["scores"])]
        silent = [score for none, score in best if none]
        pairs = [(a, b) for none, a in best if not none for b in silent]
        expected = sum(1.0 if a > b else 0.5 if a == b else 0.0 for a, b in pairs) / len(pairs)
        curve = gating_curve(run, arm)
        if len(best) == len(frame):
            assert curve.auc == pytest.approx(expected)
        assert 0 <= curve.auc <= 1


def test_a_gate_that_separates_is_found_and_reported_on_the_other_half(run: RunResult) -> None:
    frame = run.per_query.copy()
    none = frame["category"] == "no_answer"
    frame["scores"] = [[0.1] if silent else [0.9, 0.8] for silent in none]
    frame["hits"] = [
        ["x"] if silent else ["y", next(iter(gold))] for silent, gold in zip(none, frame["relevant"], strict=True)
    ]
    curve = gating_curve(replace(run, per_query=frame), "bm25")
    assert curve.auc == 1.0
    assert (curve.best.answered, curve.best.silent) == (1.0, 1.0)
    assert 0.1 < curve.best.threshold <= 0.8
    assert curve.reported is not None
    assert curve.reported.balanced == 1.0


def test_what_cannot_be_gated_is_refused(run: RunResult, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no arm 'x'"):
        gating_curve(run, "x")
    with pytest.raises(Unmeasurable, match="0 of"):
        gating_curve(run, "bm25", unanswerable="never")
