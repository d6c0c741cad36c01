"""What a ranking in random order would score: the floor under every measured number.

expected("nDCG@10", relevant=1, candidates=40)      # exact, no simulation
chance_of(dataset, "nDCG@10")                       # {query id: expected score}
"""

from __future__ import annotations

import math

from smartmem.errors import ConfigError, Unmeasurable
from smartmem.evaluation.datasets import Dataset
from smartmem.evaluation.metrics import Metric, parse_metric


def expected(metric: str | Metric, *, relevant: int, candidates: int) -> float:
    """The mean score over all orders of `candidates` units, `relevant` of which are gold.

    A unit is at each rank with the same probability, so means of sums need no simulation; the first gold's rank and
    the gold among the first k are hypergeometric. Raises `ConfigError` for MAP, which has no short formula.
    """
    found = parse_metric(metric) if isinstance(metric, str) else metric
    if not 0 < relevant <= candidates:
        raise Unmeasurable(f"{relevant} relevant of {candidates} candidates; needs at least one, and no more than all")
    k = candidates if found.k is None else min(found.k, candidates)
    share = relevant / candidates
    match found.kind:
        case "recall":
            return k / candidates
        case "precision":
            return k * share / (found.k or k)
        case "recall_any":
            return 1 - _none_before(k, relevant, candidates)
        case "recall_all":
            return math.comb(candidates - relevant, k - relevant) / math.comb(candidates, k) if k >= relevant else 0.0
        case "nDCG":
            ideal = _discounts(min(relevant, found.k or relevant))
            return share * _discounts(k) / ideal
        case "MRR":
            first = [_none_before(r - 1, relevant, candidates) - _none_before(r, relevant, candidates)
                     for r in range(1, k + 1)]  # fmt: skip
            return sum(p / rank for rank, p in enumerate(first, start=1))
    raise ConfigError(f"no chance level is known for {found}; use recall, precision, nDCG or MRR")


def chance_of(dataset: Dataset, metric: str) -> dict[str, float]:
    """Query → expected score when the turns of its own conversation are ranked at random; queries with gold only."""
    sizes = {talk.id: sum(bool(turn.text.strip()) for turn in talk.turns()) for talk in dataset.conversations}
    return {
        query.id: expected(metric, relevant=len(query.relevant), candidates=sizes[query.conversation_id])
        for query in dataset.queries
        if query.relevant
    }


def _none_before(k: int, relevant: int, candidates: int) -> float:
    """The probability that no gold is among the first `k`."""
    return math.comb(candidates - relevant, k) / math.comb(candidates, k)


def _discounts(k: int) -> float:
    return sum(1 / math.log2(rank + 1) for rank in range(1, k + 1))
