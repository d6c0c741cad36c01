"""Retrieval metrics as values: `parse_metric("nDCG@10").score(ranking, relevant)`.

Relevance is binary. Ids are ranked by (-score, id): the tie rule of the house. A query without gold has no score at all
(`Outcome.INELIGIBLE`); in particular `recall_all@k` of nothing is not 1. Formulas: Järvelin & Kekäläinen 2002 for nDCG
with the discount log2(rank + 1) from rank 1 on and the ideal over ALL relevant ids, trec_eval for the others; checked
against ir_measures to 1e-9 in tests/property/test_metrics.py.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from smartmem.errors import ConfigError, Unmeasurable

TIE_RULE = "(-score, id): higher scores first, equal scores by ascending id"


class Outcome(StrEnum):
    """How a query ended. `failed` counts 0 in every mean; `ineligible` and `not_run` stand beside it as counts."""

    SCORED = "scored"
    INELIGIBLE = "ineligible"
    FAILED = "failed"
    NOT_RUN = "not_run"


class Level(StrEnum):
    """What is ranked. A session's or turn's score is the best of the chunks that cover it."""

    TURN = "turn"
    CHUNK = "chunk"
    SESSION = "session"


# name → (takes a cut-off, needs one)
_KINDS = {
    "recall": True,
    "recall_any": True,
    "recall_all": True,
    "precision": True,
    "nDCG": True,
    "MRR": False,
    "MAP": False,
}
_NAME = re.compile(r"(?:(turn|chunk|session):)?([A-Za-z_]+)(?:@([1-9]\d*))?")


@dataclass(frozen=True, slots=True, order=True)
class Metric:
    """One metric at one level. `str()` gives the name it was parsed from, in canonical letters.

    >>> str(parse_metric("session:recall_any@5"))
    'session:recall_any@5'
    """

    kind: str
    k: int | None = None
    level: Level | None = None

    def __str__(self) -> str:
        name = self.kind if self.k is None else f"{self.kind}@{self.k}"
        return name if self.level is None else f"{self.level}:{name}"

    def score(self, ranking: Sequence[str], relevant: Collection[str]) -> float:
        """Of one query: `ranking` best first without repeats, `relevant` at least one id; between 0 and 1."""
        gold = set(relevant)
        return self.of_ranks([place for place, item in enumerate(ranking, start=1) if item in gold], len(gold))

    def of_ranks(self, ranks: Sequence[int], gold: int) -> float:
        """The same from the places (from 1, ascending) of the relevant ids that were found, and how many there are."""
        if not gold:
            raise Unmeasurable(f"{self} of a query without relevant ids; such a query is ineligible and gets no score")
        top = ranks if self.k is None else [place for place in ranks if place <= self.k]
        match self.kind:
            case "recall":
                return len(top) / gold
            case "recall_any":
                return float(bool(top))
            case "recall_all":
                return float(len(top) == gold)
            case "precision":
                # Over k, not over what came back: a short answer is not a precise one.
                return len(top) / (self.k or 1)
            case "nDCG":
                # The ideal is over ALL relevant ids that fit in, found or not.
                return _dcg(top) / _dcg(range(1, min(gold, self.k or gold) + 1))
            case "MRR":
                return 1 / top[0] if top else 0.0
            case _:
                return sum(found / place for found, place in enumerate(top, start=1)) / gold


def _dcg(ranks: Iterable[int]) -> float:
    return sum(1 / math.log2(place + 1) for place in ranks)


def parse_metric(name: str) -> Metric:
    """`nDCG@10`, `recall@5`, `recall_any@5`, `recall_all@5`, `precision@5`, `MRR`, `MAP`, each also `session:…`."""
    found = _NAME.fullmatch(name.strip())
    kind = {known.lower(): known for known in _KINDS}.get(found[2].lower()) if found else None
    if found is None or kind is None:
        raise ConfigError(f"unknown metric {name!r}; known are: {', '.join(_KINDS)}, with a cut-off as in nDCG@10")
    if _KINDS[kind] and found[3] is None and kind != "nDCG":
        raise ConfigError(f"metric {name!r} needs a cut-off, e.g. {kind}@5")
    return Metric(kind, int(found[3]) if found[3] else None, Level(found[1]) if found[1] else None)


def rank(scores: Mapping[str, float]) -> list[str]:
    """Ids by the tie rule. A score that is not a number would make the order arbitrary, so it is refused."""
    for name, score in scores.items():
        if math.isnan(score):
            raise Unmeasurable(f"the score of {name!r} is not a number, so nothing can be ranked")
    return sorted(scores, key=lambda name: (-scores[name], name))


def best_scores(hits: Iterable[tuple[str, float]], members: Mapping[str, Collection[str]]) -> dict[str, float]:
    """Scores of units (turns, sessions) from those of chunks: each unit has the best of the chunks that cover it."""
    scores: dict[str, float] = {}
    for chunk, score in hits:
        for unit in members.get(chunk, ()):
            if unit not in scores or score > scores[unit]:
                scores[unit] = score
    return scores
