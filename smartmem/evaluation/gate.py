"""Gates: has anything become worse than the baseline? (verify.py: does a run give the same figures again?)"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from smartmem.errors import ConfigError, DataError
from smartmem.evaluation.compare import opened
from smartmem.evaluation.results import RunResult, write_whole

PASS, REGRESSION, UNMEASURABLE = 0, 1, 2
DEFAULT_MARGIN = 0.01


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class BaselineData(_Model):
    """Of one dataset: what was measured, on which questions."""

    qrels_sha256: str
    queries: int
    arms: dict[str, dict[str, float]]


class Baseline(_Model):
    """eval/baselines/NAME.json: the means to hold, and by how much each metric may fall."""

    suite: str
    commit: str = ""
    average: str
    margins: dict[str, float] = Field(default_factory=dict)
    datasets: dict[str, BaselineData]


@dataclass(frozen=True, slots=True, kw_only=True)
class GateRow:
    """One figure against its baseline. `state`: held, improved (by more than the margin), regressed, unmeasurable."""

    dataset: str
    arm: str
    metric: str
    baseline: float | None
    value: float | None
    margin: float
    state: str
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GateResult:
    """`status` is the exit status: 0 pass, 1 a regression beyond its margin, 2 something could not be measured."""

    status: int
    rows: list[GateRow]

    def __str__(self) -> str:
        words = {PASS: "pass", REGRESSION: "regression", UNMEASURABLE: "unmeasurable"}
        lines = [f"gate: {words[self.status]} ({len(self.rows)} figures)"]
        for row in self.rows:
            if row.state in ("regressed", "unmeasurable"):
                was = "–" if row.baseline is None else f"{row.baseline:.4f}"
                now = "–" if row.value is None else f"{row.value:.4f}"
                lines.append(
                    f"  {row.state}: {row.dataset} / {row.arm} / {row.metric}: {was} → {now} "
                    f"(margin {row.margin:g}) {row.why}".rstrip()
                )
        return "\n".join(lines)


def make_baseline(run: RunResult | str | Path, margins: Mapping[str, float] | None = None) -> Baseline:
    """The figures of a run as a baseline. `margins` by metric; `default` is for the others."""
    whole = opened(run)
    return Baseline(
        suite=whole.suite.name,
        commit=str(whole.manifest["git"]["commit"]),
        average=whole.suite.average,
        margins={"default": DEFAULT_MARGIN} | dict(margins or {}),
        datasets={
            dataset: BaselineData(
                qrels_sha256=whole.manifest["datasets"][dataset]["qrels_sha256"],
                queries=whole.manifest["datasets"][dataset]["queries"],
                arms={
                    arm: {m: round(row["mean"], 6) for m, row in rows.items() if row["mean"] is not None}
                    for arm, rows in arms.items()
                },
            )
            for dataset, arms in whole.metrics.items()
        },
    )


def write_baseline(run: RunResult | str | Path, path: str | Path, margins: Mapping[str, float] | None = None) -> Path:
    """Write the baseline of a run; an existing file is replaced."""
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, json.dumps(make_baseline(run, margins).model_dump(), ensure_ascii=False, indent=1) + "\n")
    return file


def load_baseline(path: str | Path) -> Baseline:
    """Read a baseline; `DataError` names the file and the key."""
    file = Path(path)
    try:
        return Baseline.model_validate_json(file.read_text("utf-8"))
    except OSError as error:
        raise DataError(f"baseline {file} cannot be read: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise DataError(f"baseline {file}: {where}: {first['msg']}") from None


def load_margins(path: str | Path) -> dict[str, float]:
    """`[margins]` of eval/gates.toml: by metric, with `default`."""
    file = Path(path)
    try:
        values = tomllib.loads(file.read_text("utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"gates {file} cannot be read: {error}") from None
    margins = values.get("margins", {})
    if set(values) - {"margins"} or not all(isinstance(v, int | float) and v >= 0 for v in margins.values()):
        raise ConfigError(f"gates {file}: expected one table [margins] of numbers of at least 0")
    return {name: float(value) for name, value in margins.items()}


def gate(
    run: RunResult | str | Path, baseline: Baseline | str | Path, margins: Mapping[str, float] | None = None
) -> GateResult:
    """Hold a run against a baseline. A figure may fall by its margin; what is missing or was asked differently is
    unmeasurable, and so is a mean from which queries are missing or in which some failed that did not before."""
    whole = opened(run)
    base = baseline if isinstance(baseline, Baseline) else load_baseline(baseline)
    allowed = base.margins | dict(margins or {})
    rows = []
    for dataset, data in base.datasets.items():
        trouble = _trouble(whole, base, dataset, data)
        for arm, figures in data.arms.items():
            for metric, was in figures.items():
                margin = allowed.get(metric, allowed.get("default", DEFAULT_MARGIN))
                rows.append(_row(whole, dataset, arm, metric, was, margin, trouble))
    if not rows:
        raise DataError("the baseline holds no figure, so nothing can be held against it; write it anew")
    states = {row.state for row in rows}
    status = UNMEASURABLE if "unmeasurable" in states else REGRESSION if "regressed" in states else PASS
    return GateResult(status=status, rows=rows)


def _trouble(run: RunResult, base: Baseline, dataset: str, data: BaselineData) -> str:
    if dataset not in run.metrics:
        return "the run has no such dataset"
    if run.manifest["datasets"][dataset]["qrels_sha256"] != data.qrels_sha256:
        return "the run asked other queries or has other gold than the baseline"
    return "" if run.suite.average == base.average else "the run averages in another way than the baseline"


def _row(run: RunResult, dataset: str, arm: str, metric: str, was: float, margin: float, trouble: str) -> GateRow:
    found = run.metrics.get(dataset, {}).get(arm, {}).get(metric)
    value = found["mean"] if found else None
    why = trouble or ("" if found else "not in the run")
    if not why and found is not None:
        cell = run.errors.get(f"{dataset}/{arm}", "")
        why = cell or (f"{found['not_run']} queries were not run" if found["not_run"] else "")
        why = why or ("no query has a value" if value is None else "")
    if why or value is None:
        state = "unmeasurable"
    elif value < was - margin - 1e-9:
        state = "regressed"
        why = f"{found['failed']} queries failed" if found and found["failed"] else ""
    else:
        state = "improved" if value > was + margin else "held"
    return GateRow(
        dataset=dataset, arm=arm, metric=metric, baseline=was, value=value, margin=margin, state=state, why=why
    )
