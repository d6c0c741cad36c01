"""report.html (one file, opens anywhere, asks for nothing else) and report.md, from a run."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smartmem.errors import MissingExtra
from smartmem.evaluation.gating import GatingCurve, gating_curves
from smartmem.evaluation.metrics import Outcome
from smartmem.evaluation.results import RunResult, write_whole
from smartmem.evaluation.write_path import WritePath, load_write_path, save_write_path
from smartmem.viz import charts
from smartmem.viz.figures import data_uri, figure, to_png
from smartmem.viz.quality import gate_curves

TEMPLATES = Path(__file__).with_name("templates")
_WORST = 12
_FAILURES = 50
_NARROW = (4.0, 3.6)


@dataclass(frozen=True, slots=True)
class Picture:
    """One chart, drawn for a desk and for a telephone: shrunk letters cannot be read."""

    name: str
    caption: str
    wide: bytes
    narrow: bytes

    @property
    def wide_uri(self) -> str:
        return data_uri(self.wide)

    @property
    def narrow_uri(self) -> str:
        return data_uri(self.narrow)


def write_report(result: RunResult, folder: str | Path, write_path: WritePath | None = None) -> Path:
    """Write report.html, report.md and charts/*.png into `folder` (beside the run's files); returns the HTML's path.

    A write path that is given is kept in the folder too, and found there when the report is written again.
    """
    environment = _environment()
    place = Path(folder)
    if write_path is not None:
        save_write_path(place, write_path)
    write_path = write_path or load_write_path(place)
    (place / "charts").mkdir(parents=True, exist_ok=True)
    gates = {dataset: gating_curves(result, dataset) for dataset in result.metrics}
    pictures = {dataset: _pictures(result, dataset, gates[dataset]) for dataset in result.metrics}
    context: dict[str, Any] = {
        "result": result,
        "suite": result.suite,
        "manifest": result.manifest,
        "datasets": [_section(result, dataset, pictures[dataset], gates[dataset]) for dataset in result.metrics],
        "write_path": write_path,
        "write_pictures": _write_pictures(write_path) if write_path else [],
        "failures": _failures(result),
        "errors": result.errors,
        "findings": findings(result),
        "outcomes": [str(state) for state in Outcome],
        "manifest_json": json.dumps(result.manifest, ensure_ascii=False, indent=1),
    }
    for dataset, made in pictures.items():
        for picture in made:
            (place / "charts" / f"{dataset}-{picture.name}.png").write_bytes(picture.wide)
    for picture in context["write_pictures"]:
        (place / "charts" / f"{picture.name}.png").write_bytes(picture.wide)
    write_whole(place / "report.md", environment.get_template("report.md.j2").render(context))
    write_whole(place / "report.html", environment.get_template("report.html.j2").render(context))
    return place / "report.html"


def findings(result: RunResult) -> list[str]:
    """What a reader should take away, in sentences with figures: the best arm of each dataset and how sure it is."""
    out = []
    metric = result.suite.metrics[0]
    for dataset, arms in result.metrics.items():
        known = {arm: rows[metric] for arm, rows in arms.items() if rows[metric]["mean"] is not None}
        if not known:
            out.append(f"{dataset}: no arm could be measured.")
            continue
        best = max(known, key=lambda arm: known[arm]["mean"])
        row = known[best]
        text = f"{dataset}: best by {metric} is {best} with {row['mean']:.3f}{span(row)}."
        test = next(
            (t for t in result.comparisons if (t["dataset"], t["arm"], t["metric"]) == (dataset, best, metric)), None
        )
        if test is not None:
            # "sure" only after the correction for all the tests of the run.
            sure = "which holds" if (test["p_holm"] or 1.0) < 0.05 else "which could be chance"
            p = "no p" if test["p_holm"] is None else f"Holm p = {test['p_holm']:.3g}"
            text += (
                f" That is {test['difference']:+.3f}{span(test)} against {test['baseline']}, {sure} "
                f"({p}, {test['clusters']} clusters)."
            )
        out.append(text)
    out += [f"{cell} could not run: {why}" for cell, why in result.errors.items()]
    return out


def span(row: dict[str, Any]) -> str:
    """` [lo, hi]`, or nothing where there is no interval."""
    return "" if row["lo"] is None or row["hi"] is None else f" [{row['lo']:.3f}, {row['hi']:.3f}]"


def _section(result: RunResult, dataset: str, pictures: list[Picture], gates: dict[str, GatingCurve]) -> dict[str, Any]:
    metric = result.suite.metrics[0]
    arms = result.metrics[dataset]
    categories: dict[str, dict[str, Any]] = {}
    for arm, curves in result.curves[dataset].items():
        for category, row in curves["categories"].get(metric, {}).items():
            categories.setdefault(category, {})[arm] = row
    return {
        "name": dataset,
        "data": result.manifest["datasets"][dataset],
        "arms": arms,
        "first": {arm: rows[metric] for arm, rows in arms.items()},
        "metric": metric,
        "latency": result.latency.get(dataset, {}),
        "tests": [test for test in result.comparisons if test["dataset"] == dataset],
        "categories": categories,
        "pictures": pictures,
        "saturated": result.manifest["saturated"].get(dataset, {}),
        "worst": _worst(result, dataset),
        "gates": gates,
        "cells": {cell["arm"]: cell for cell in result.manifest["cells"] if cell["dataset"] == dataset},
    }


def _worst(result: RunResult, dataset: str) -> list[dict[str, Any]]:
    """Queries that no arm answers well: lowest best score over the arms, gold far down or missing."""
    metric = result.suite.metrics[0]
    frame = result.per_query
    frame = frame[(frame["dataset"] == dataset) & frame[metric].notna()]
    if not len(frame):
        return []
    best = frame.groupby("query_id", sort=False)[metric].max().sort_values(kind="stable")
    rows = []
    for query_id, value in list(best.items())[:_WORST]:
        mine = frame[frame["query_id"] == query_id]
        one = mine.iloc[0]
        ranks = {row["arm"]: ", ".join(str(r) if r else "–" for r in row["gold_ranks"]) for _, row in mine.iterrows()}
        rows.append(
            {"query": query_id, "category": one["category"], "text": one["text"], "best": value, "ranks": ranks}
            | {"relevant": list(one["relevant"])}
        )
    return rows


def _failures(result: RunResult) -> list[dict[str, Any]]:
    frame = result.per_query
    failed = frame[frame["outcome"] == str(Outcome.FAILED)]
    rows = [
        {n: row[n] for n in ("dataset", "arm", "query_id", "reason")} for _, row in failed.head(_FAILURES).iterrows()
    ]
    if len(failed) > _FAILURES:
        rows.append({"dataset": "…", "arm": "…", "query_id": f"and {len(failed) - _FAILURES} more", "reason": ""})
    return rows


def _draw(name: str, caption: str, draw: Callable[[Any], object], size: tuple[float, float] = (7.2, 4.0)) -> Picture:
    images = []
    for inches in (size, (_NARROW[0], max(_NARROW[1], size[1] * 0.85))):
        with figure(size=inches) as (fig, ax):
            draw(ax)
            images.append(to_png(fig))
    return Picture(name, caption, *images)


def _pictures(result: RunResult, dataset: str, gates: dict[str, GatingCurve]) -> list[Picture]:
    metric = result.suite.metrics[0]
    arms = result.metrics[dataset]
    first = {arm: rows[metric] for arm, rows in arms.items()}
    curves = {arm: made["recall"] for arm, made in result.curves[dataset].items() if made["recall"]}
    bars = {arm: made["categories"].get(metric, {}) for arm, made in result.curves[dataset].items()}
    tests = [t for t in result.comparisons if t["dataset"] == dataset and t["metric"] == metric]
    times = {arm: row["ms"] for arm, row in result.latency.get(dataset, {}).items()}
    tall = max(2.2, 0.42 * len(arms) + 1.2)
    made = [_draw("means", f"{metric} with intervals", lambda ax: charts.metric_bars(ax, first, metric), (7.2, tall))]
    if curves:
        made.append(_draw("recall", "recall@k with intervals", lambda ax: charts.recall_curves(ax, curves)))
    if len({name for rows in bars.values() for name in rows}) > 1:
        made.append(
            _draw(
                "categories",
                "by category",
                lambda ax: charts.category_bars(ax, bars, f"{metric} by category"),
                (8.4, 4.4),
            )
        )
    if tests:
        against = f"{metric} against {result.suite.baseline}"
        made.append(
            _draw("differences", "paired differences", lambda ax: charts.differences(ax, tests, against), (7.2, tall))
        )
        made.append(_draw("wins", "wins and losses", lambda ax: charts.win_loss(ax, tests, against), (7.2, tall)))
    if times:
        made.append(_draw("latency", "latency of single queries", lambda ax: charts.latency_ecdf(ax, times)))
        points = [
            {"arm": arm, "ms": row["p50"], "score": first[arm]["mean"], "lo": first[arm]["lo"], "hi": first[arm]["hi"]}
            for arm, row in result.latency[dataset].items()
            if first[arm]["mean"] is not None
        ]
        made.append(
            _draw("frontier", "quality and cost", lambda ax: charts.frontier(ax, points, "Quality and cost", metric))
        )
    if gates:
        lines = {arm: curve.points for arm, curve in gates.items()}
        made.append(_draw("gating", "questions without an answer", lambda ax: gate_curves(ax, lines)))
    return made


def _write_pictures(path: WritePath) -> list[Picture]:
    return [
        _draw("write-path", "jobs by state over time", lambda ax: charts.job_states(ax, path.series)),
        _draw("write-throughput", "throughput by state over time", lambda ax: charts.throughput(ax, path.throughput)),
    ]


def _environment() -> Any:
    try:
        import jinja2
    except ImportError:
        raise MissingExtra("jinja2", "eval") from None
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        # Arm names, reasons and query texts come from files: they are text, never markup.
        autoescape=jinja2.select_autoescape(enabled_extensions=("html.j2",), default=False),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "fig": lambda value: "–" if value is None else f"{value:.3f}",
        "signed": lambda value: "–" if value is None else f"{value:+.3f}",
        "ms": lambda value: "–" if value is None else f"{value:,.1f}" if value < 100 else f"{value:,.0f}",
        "p": lambda value: "–" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}",
        "span": span,
        "cell": lambda text: str(text).replace("|", "\\|").replace("\n", " "),
    }
    return made
