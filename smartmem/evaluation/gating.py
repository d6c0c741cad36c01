"""No-answer gating: below which score should nothing be recalled?

A question that the memory cannot answer should bring nothing back; one that it can should bring the right thing. Each
threshold trades the one against the other, and the curve shows all of them. Thresholds are chosen on one half of the
conversations and reported on the other.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from smartmem.errors import ConfigError, Unmeasurable
from smartmem.evaluation.results import RunResult
from smartmem.evaluation.stats import Resampler

if TYPE_CHECKING:
    import pandas as pd


NO_ANSWER = "no_answer"  # the category of questions that nothing should be recalled for


@dataclass(frozen=True, slots=True, kw_only=True)
class GatePoint:
    """At one threshold: `answered` of the questions with an answer have a relevant hit at or above it among the first
    k; `silent` of those without one bring nothing back. `balanced` is the mean of the two."""

    threshold: float
    answered: float
    silent: float
    balanced: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GatingCurve:
    """`auc`: how often an answerable question's best score is above that of one without an answer (0.5 is chance),
    with its interval over conversations. `best`: the point chosen on `chosen_on`; `reported`: the same threshold on
    the other conversations."""

    points: tuple[GatePoint, ...]
    auc: float
    auc_lo: float | None
    auc_hi: float | None
    best: GatePoint
    reported: GatePoint | None
    answerable: int
    unanswerable: int


def gating_curve(
    run: RunResult, arm: str, *, dataset: str | None = None, unanswerable: str = NO_ANSWER, k: int = 5
) -> GatingCurve:
    """From a run's scores. `unanswerable` is the category of questions that nothing should be recalled for."""
    name = dataset or next(iter(run.metrics))
    if arm not in run.metrics.get(name, {}):
        raise ConfigError(f"the run has no arm {arm!r} on {name!r}; it has: {', '.join(run.metrics.get(name, {}))}")
    frame = run.per_query[(run.per_query["dataset"] == name) & (run.per_query["arm"] == arm)]
    frame = frame[~frame["outcome"].isin(["failed", "not_run"])]
    none = frame["category"] == unanswerable
    if not none.any() or none.all():
        raise Unmeasurable(
            f"{name}: {int(none.sum())} of {len(frame)} questions are {unanswerable!r}; a curve needs both kinds"
        )
    top = np.array([float(scores[0]) if len(scores) else -np.inf for scores in frame["scores"]])
    hit = np.array([_relevant_score(row, k) for _, row in frame.iterrows()])
    groups = frame["cluster"].astype(str).to_numpy()
    names = sorted(set(groups))
    first_half = np.isin(groups, names[::2])
    wanted = ~none.to_numpy()
    thresholds = _thresholds(top)
    points = tuple(_point(t, top, hit, wanted) for t in thresholds)
    on = first_half if wanted[first_half].any() and (~wanted)[first_half].any() else np.ones(len(top), dtype=bool)
    best = max((_point(t, top[on], hit[on], wanted[on]) for t in thresholds), key=lambda p: (p.balanced, -p.threshold))
    other = ~first_half
    reported = (
        _point(best.threshold, top[other], hit[other], wanted[other])
        if wanted[other].any() and (~wanted)[other].any()
        else None
    )
    auc, lo, hi = _auc(top, wanted, groups, run)
    return GatingCurve(
        points=points,
        auc=auc,
        auc_lo=lo,
        auc_hi=hi,
        best=best,
        reported=reported,
        answerable=int(wanted.sum()),
        unanswerable=int((~wanted).sum()),
    )


def gating_curves(run: RunResult, dataset: str, k: int = 5) -> dict[str, GatingCurve]:
    """The curve of every arm that ran, or none where the dataset has no questions without an answer."""
    asked = run.per_query[run.per_query["dataset"] == dataset]
    if not (asked["category"] == NO_ANSWER).any() or (asked["category"] == NO_ANSWER).all():
        return {}
    ran = [arm for arm in run.metrics[dataset] if f"{dataset}/{arm}" not in run.errors]
    return {arm: gating_curve(run, arm, dataset=dataset, k=k) for arm in ran}


def _relevant_score(row: pd.Series[Any], k: int) -> float:
    """The score of the best relevant hit among the first k, or -inf."""
    gold = set(row["relevant"])
    scores = [float(s) for hit, s in zip(row["hits"][:k], row["scores"][:k], strict=True) if hit in gold]
    return max(scores, default=-np.inf)


def _thresholds(top: np.ndarray[Any, Any], most: int = 101) -> list[float]:
    """Quantiles of the best scores, so that scales of any retriever are covered evenly."""
    finite = top[np.isfinite(top)]
    if not len(finite):
        return [0.0]
    return sorted({float(value) for value in np.quantile(finite, np.linspace(0, 1, most))})


def _point(
    threshold: float, top: np.ndarray[Any, Any], hit: np.ndarray[Any, Any], wanted: np.ndarray[Any, Any]
) -> GatePoint:
    answered = float(np.mean(hit[wanted] >= threshold))
    silent = float(np.mean(top[~wanted] < threshold))
    return GatePoint(threshold=threshold, answered=answered, silent=silent, balanced=(answered + silent) / 2)


def _auc(
    top: np.ndarray[Any, Any], wanted: np.ndarray[Any, Any], groups: Iterable[str], run: RunResult
) -> tuple[float, float | None, float | None]:
    """Each answerable question's share of unanswerable ones below it (ties half), averaged with its interval."""
    rivals = top[~wanted]
    share = np.array([np.mean(np.where(value == rivals, 0.5, value > rivals)) for value in top[wanted]])
    mine = [group for group, keep in zip(groups, wanted, strict=True) if keep]
    found = Resampler(mine, resamples=run.suite.resamples, seed=run.suite.seed).interval(share)
    return found.mean, found.lo, found.hi
