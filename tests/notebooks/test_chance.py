"""Chance levels against every order that there is."""

from __future__ import annotations

import itertools
import statistics

import pytest

from smartmem.errors import ConfigError, Unmeasurable
from smartmem.evaluation.chance import chance_of, expected
from smartmem.evaluation.datasets.registry import load_dataset
from smartmem.evaluation.metrics import parse_metric


@pytest.mark.parametrize("relevant", [1, 2, 5])
@pytest.mark.parametrize(
    "name", ["recall@3", "recall@9", "precision@4", "recall_any@2", "recall_all@3", "nDCG@3", "nDCG", "MRR"]
)
def test_the_mean_over_all_orders(name: str, relevant: int) -> None:
    metric, gold = parse_metric(name), {str(i) for i in range(relevant)}
    orders = itertools.permutations([str(i) for i in range(6)])
    assert expected(name, relevant=relevant, candidates=6) == pytest.approx(
        statistics.fmean(metric.score(order, gold) for order in orders)
    )


def test_what_has_no_chance_level_is_refused() -> None:
    with pytest.raises(ConfigError, match="MAP"):
        expected("MAP", relevant=1, candidates=3)
    with pytest.raises(Unmeasurable, match="4 relevant of 3"):
        expected("MRR", relevant=4, candidates=3)


def test_every_question_with_gold_has_one() -> None:
    data = load_dataset("smartmem-tiny", limit=2)
    levels = chance_of(data, "recall@5")
    assert set(levels) == {query.id for query in data.queries if query.relevant}
    assert all(0 < level < 0.5 for level in levels.values())
