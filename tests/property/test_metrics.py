"""Metrics agree with ir_measures on random runs with ties, and hold for any ranking."""

import itertools
import math

import ir_measures
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smartmem.evaluation.metrics import parse_metric, rank

PAIRS = {
    "nDCG@10": ir_measures.nDCG @ 10,
    "nDCG@3": ir_measures.nDCG @ 3,
    "recall@5": ir_measures.R @ 5,
    "precision@5": ir_measures.P @ 5,
    "recall_any@5": ir_measures.Success @ 5,
    "MRR": ir_measures.RR,
    "MRR@5": ir_measures.RR @ 5,
    "MAP": ir_measures.AP,
    "MAP@5": ir_measures.AP @ 5,
}
ids = st.sampled_from([f"d{i}" for i in range(14)] + ["会话1", "é"])
# Few different scores, so that nearly every run has ties.
runs = st.dictionaries(ids, st.sampled_from([0.0, 0.25, 0.5, 1.0, -1.0]), min_size=1, max_size=14)


@settings(max_examples=120, deadline=None)
@given(st.lists(st.tuples(runs, st.sets(ids, min_size=1, max_size=6)), min_size=1, max_size=4))
def test_metrics_agree_with_ir_measures(queries: list[tuple[dict[str, float], set[str]]]) -> None:
    qrels = {f"q{i}": dict.fromkeys(gold, 1) for i, (_, gold) in enumerate(queries)}
    orders = [rank(scores) for scores, _ in queries]
    # ir_measures' back ends break ties each in its own way, so they get our order as scores without ties.
    run = {f"q{i}": {d: float(-place) for place, d in enumerate(order)} for i, order in enumerate(orders)}
    theirs = {
        (str(found.measure), found.query_id): found.value
        for found in ir_measures.iter_calc(list(PAIRS.values()), qrels, run)
    }
    for name, measure in PAIRS.items():
        for i, (_, gold) in enumerate(queries):
            ours = parse_metric(name).score(orders[i], gold)
            assert ours == pytest.approx(theirs[str(measure), f"q{i}"], abs=1e-9), (name, i)


@given(runs, st.sets(ids, min_size=1, max_size=6), st.integers(1, 20))
def test_every_metric_is_between_0_and_1_and_they_stand_in_order(
    scores: dict[str, float], gold: set[str], k: int
) -> None:
    order = rank(scores)
    value = {n: parse_metric(f"{n}@{k}").score(order, gold) for n in ("recall", "recall_any", "recall_all", "nDCG")}
    assert all(0 <= v <= 1 + 1e-12 for v in value.values())
    assert value["recall_all"] <= value["recall"] <= value["recall_any"]
    assert (value["nDCG"] > 0) == (value["recall_any"] > 0)


@given(runs)
def test_the_tie_rule_is_score_down_then_id_up(scores: dict[str, float]) -> None:
    order = rank(scores)
    assert sorted(order) == sorted(scores)
    for before, after in itertools.pairwise(order):
        assert (-scores[before], before) < (-scores[after], after)
    assert math.isfinite(sum(scores.values()))
