"""The traps that other tools fell into, each as one case."""

import math

import pytest

from smartmem.errors import ConfigError, Unmeasurable
from smartmem.evaluation.metrics import Level, best_scores, parse_metric, rank


@pytest.mark.parametrize(
    "name", ["nDCG@10", "recall@5", "recall_any@5", "recall_all@1", "precision@5", "MRR@3", "MAP", "session:MAP"]
)  # fmt: skip
def test_a_metric_is_a_value_with_its_name(name: str) -> None:
    assert str(parse_metric(name)) == name
    assert parse_metric(name) == parse_metric(f" {name.lower()} ")


@pytest.mark.parametrize(
    "name", ["", "ndgc@5", "recall", "recall@0", "recall@-1", "day:MRR", "recall@5@5", "precision"]
)
def test_an_unknown_metric_says_what_is_known(name: str) -> None:
    with pytest.raises(ConfigError, match=r"known are|needs a cut-off"):
        parse_metric(name or "?")


def test_ideal_dcg_is_over_all_relevant_not_over_the_retrieved() -> None:
    # One of three found, at rank 1: 1 / (1 + 1/log2(3) + 1/2), not 1.
    ideal = 1 + 1 / math.log2(3) + 1 / 2
    assert parse_metric("nDCG@10").score(["a"], {"a", "b", "c"}) == pytest.approx(1 / ideal)


def test_rank_2_is_discounted() -> None:
    assert parse_metric("nDCG@10").score(["x", "a"], {"a"}) == pytest.approx(1 / math.log2(3))


def test_recall_is_a_fraction_and_its_cousins_are_not() -> None:
    ranking, gold = ["a", "x", "b"], {"a", "b", "c"}
    scores = {n: parse_metric(f"{n}@3").score(ranking, gold) for n in ("recall", "recall_any", "recall_all")}
    assert scores == {"recall": pytest.approx(2 / 3), "recall_any": 1.0, "recall_all": 0.0}


def test_precision_is_over_k_also_when_less_came_back() -> None:
    assert parse_metric("precision@5").score(["a"], {"a"}) == pytest.approx(1 / 5)


@pytest.mark.parametrize("name", ["recall_all@5", "nDCG@10", "MRR"])
def test_nothing_relevant_is_not_a_score_of_1(name: str) -> None:
    with pytest.raises(Unmeasurable, match="ineligible"):
        parse_metric(name).score(["a"], ())


def test_an_empty_answer_scores_0() -> None:
    for name in ("nDCG@10", "recall@5", "recall_all@5", "precision@5", "MRR", "MAP"):
        assert parse_metric(name).score([], {"a"}) == 0.0


def test_a_score_that_is_no_number_is_refused() -> None:
    with pytest.raises(Unmeasurable, match="'b' is not a number"):
        rank({"a": 1.0, "b": float("nan")})


def test_a_session_has_the_score_of_its_best_chunk() -> None:
    hits = [("c1", 0.2), ("c2", 0.9), ("c3", 0.5), ("nobody", 1.0)]
    assert best_scores(hits, {"c1": ("s1",), "c2": ("s1", "s2"), "c3": ("s2",)}) == {"s1": 0.9, "s2": 0.9}
    assert parse_metric("session:recall@1").level is Level.SESSION
