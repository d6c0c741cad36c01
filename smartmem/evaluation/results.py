"""A run on disk: metrics.json, comparisons.json, per_query.parquet, latency.json, manifest.json in one folder."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smartmem.errors import DataError, MissingExtra
from smartmem.evaluation.metrics import Outcome
from smartmem.evaluation.suite import Suite, make_suite

if TYPE_CHECKING:
    import pandas as pd

FILES = ("metrics.json", "comparisons.json", "curves.json", "latency.json", "manifest.json")
WRITE_PATH_FILE = "write_path.json"  # written with a report that has one


@dataclass(slots=True, kw_only=True)
class RunResult:
    """A finished run. `metrics` is EVALUATION.md §4's `{dataset: {arm: {metric: {"mean", …}}}}`.

    `per_query` has a row for each dataset, arm and query: ids, category, outcome, reason, the ranked ids with scores,
    the ranks of the gold (0: not found) and a column for each metric (NaN where the query has no value).
    `curves`: `{dataset: {arm: {"recall": […], "categories": {metric: {category: …}}}}}`.
    `latency`: `{dataset: {arm: {"ms": […], "p50", "p95", "from_cache"}}}`.
    """

    suite: Suite
    metrics: dict[str, dict[str, dict[str, dict[str, Any]]]]
    comparisons: list[dict[str, Any]]
    curves: dict[str, dict[str, dict[str, Any]]]
    latency: dict[str, dict[str, dict[str, Any]]]
    manifest: dict[str, Any]
    per_query: pd.DataFrame
    folder: Path | None = None
    errors: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.suite.name

    def save(self, folder: str | Path) -> Path:
        """Write all files; each appears whole or not at all."""
        place = Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        values = (self.metrics, self.comparisons, self.curves, self.latency, self.manifest)
        for name, value in zip(FILES, values, strict=True):
            write_whole(place / name, json.dumps(value, ensure_ascii=False, indent=1, sort_keys=False) + "\n")
        partial = place / f".per_query.{os.getpid()}.parquet"
        self.per_query.to_parquet(partial, index=False)
        partial.replace(place / "per_query.parquet")
        (place / WRITE_PATH_FILE).unlink(missing_ok=True)  # an earlier run's
        self.folder = place
        return place

    def to_frame(self) -> pd.DataFrame:
        """`table()` as a frame: one row a dataset and arm."""
        return _pandas().DataFrame(self.table())  # type: ignore[no-any-return]

    def _repr_html_(self) -> str:
        table: str = self.to_frame().round(3).to_html(index=False)
        failed = "".join(f"<p>could not run: {escape(where)}: {escape(why)}</p>" for where, why in self.errors.items())
        return f"<p>{escape(self.name)}</p>{table}{failed}"

    def table(self) -> list[dict[str, Any]]:
        """One flat row for each dataset and arm, for a terminal: metric means, latency, counts."""
        rows = []
        for dataset, arms in self.metrics.items():
            for arm, metrics in arms.items():
                first = next(iter(metrics.values()))
                times = self.latency.get(dataset, {}).get(arm, {})
                rows.append(
                    {"dataset": dataset, "arm": arm}
                    | {metric: value["mean"] for metric, value in metrics.items()}
                    | {"p50_ms": times.get("p50"), "p95_ms": times.get("p95")}
                    | {str(state): first[str(state)] for state in Outcome}
                )
        return rows


def write_whole(path: Path, text: str) -> None:
    """Write beside and rename, so that a kill leaves the old file or the new one."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(text, "utf-8")
    partial.replace(path)


def load_run(folder: str | Path) -> RunResult:
    """Read a run's folder; `DataError` names the file that is missing or broken."""
    pandas = _pandas()
    place = Path(folder)
    values: list[Any] = []
    for name in FILES:
        try:
            values.append(json.loads((place / name).read_text("utf-8")))
        except FileNotFoundError:
            raise DataError(f"{place} is not the folder of a finished run: {name} is missing") from None
        except json.JSONDecodeError as error:
            raise DataError(f"{place / name}: not JSON: {error}; run the suite again") from None
    metrics, comparisons, curves, latency, manifest = values
    try:
        per_query = pandas.read_parquet(place / "per_query.parquet")
    except (OSError, ValueError) as error:
        raise DataError(f"{place / 'per_query.parquet'} cannot be read ({error}); run the suite again") from None
    return RunResult(
        suite=make_suite(manifest["suite"], f"{place / 'manifest.json'}: suite"),
        metrics=metrics,
        comparisons=comparisons,
        curves=curves,
        latency=latency,
        manifest=manifest,
        per_query=per_query,
        folder=place,
        errors=errors_of(manifest),
    )


def errors_of(manifest: Mapping[str, Any]) -> dict[str, str]:
    """`dataset/arm` → why it could not run."""
    return {f"{cell['dataset']}/{cell['arm']}": cell["error"] for cell in manifest["cells"] if cell["error"]}


def _pandas() -> Any:
    try:
        import pandas
        import pyarrow  # noqa: F401 - pandas needs it for parquet, and says so only when it is too late
    except ImportError as error:
        raise MissingExtra(error.name or "pandas", "eval") from None
    return pandas
