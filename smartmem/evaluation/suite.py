"""A suite: datasets x arms, with what to measure. A TOML file in eval/suites/; unknown keys are refused."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from smartmem.errors import ConfigError
from smartmem.evaluation.metrics import Level, Metric, parse_metric
from smartmem.evaluation.stats import CONFIDENCE, RESAMPLES, SEED
from smartmem.rag.presets import preset
from smartmem.shipped import shipped

Spec = dict[str, Any]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _spec(value: object) -> object:
    return {"name": value} if isinstance(value, str) else value


class DatasetSpec(_Model):
    """One dataset. `documents = "turn"` makes a document of each turn, `"session"` a transcript of each session.

    `restrict`: index everything together, then let each query see its own conversation only (EVALUATION.md §3).
    `conversations`: only these (a split for choosing, the rest for reporting); `half`: of a dataset that has too few
    conversations for that, the questions of a seeded half of its clusters (MADial's dialogues), or of the other half.
    `limit`: the file's first records only.
    """

    name: str
    path: str | None = None
    limit: int | None = Field(None, ge=1)
    documents: Literal["turn", "session"] = "turn"
    restrict: bool = True
    conversations: tuple[str, ...] = ()
    half: Literal["", "choosing", "reporting"] = ""


class ArmSpec(_Model):
    """One way to retrieve. `rerank_top`: how many of the first stage's hits the reranker sees.

    `preset` (rag/presets.toml) fills in whatever the arm does not name itself.
    """

    name: str = Field(min_length=1, max_length=60)
    chunker: Spec = Field(default_factory=lambda: {"name": "turn"})
    embedder: Spec | None = None
    retriever: Spec
    reranker: Spec | None = None
    rerank_top: int = Field(30, ge=1)
    store: Spec | None = None
    note: str = ""
    preset: str = ""

    @model_validator(mode="before")
    @classmethod
    def _from_preset(cls, values: Any) -> Any:
        if not isinstance(values, dict) or not values.get("preset"):
            return values
        try:
            filled = preset(str(values["preset"]))
        except ConfigError as error:
            raise ValueError(str(error)) from None
        reranker = values.get("reranker", filled.get("reranker"))
        if isinstance(reranker, dict) and "candidates" in reranker:
            filled["rerank_top"] = reranker["candidates"]
        known = {key: value for key, value in filled.items() if key in cls.model_fields}
        return known | values

    @field_validator("chunker", "embedder", "retriever", "reranker", "store", mode="before")
    @classmethod
    def _by_name(cls, value: object) -> object:
        return _spec(value)

    @field_validator("reranker")
    @classmethod
    def _none_is_nothing(cls, value: Spec | None) -> Spec | None:
        return None if value is None or value.get("name") == "none" else value


class Suite(_Model):
    """Everything that defines a run but the code and the data themselves, whose hashes stand in the manifest."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    title: str = ""
    datasets: tuple[DatasetSpec, ...] = Field(min_length=1)
    arms: tuple[ArmSpec, ...] = Field(min_length=1)
    baseline: str
    metrics: tuple[str, ...] = ("nDCG@10", "recall@5", "recall@10", "MRR")
    level: Level = Level.TURN
    k: int = Field(100, ge=1, description="how many hits are retrieved for each query")
    average: Literal["macro", "micro"] = "macro"
    seed: int = SEED
    resamples: int = Field(RESAMPLES, ge=200)
    confidence: float = Field(CONFIDENCE, gt=0.5, lt=1)
    latency_queries: int = Field(40, ge=0, description="queries timed one by one with nothing cached; 0 times none")
    limit_queries: int | None = Field(None, ge=1, description="a seeded sample of so many queries of each dataset")
    executor: Literal["serial", "joblib", "dask"] = "serial"
    workers: int = Field(2, ge=1)
    scheduler: str = Field("", description="address of a Dask scheduler; empty starts a local cluster of `workers`")
    cache: str = Field("", description="folder of the stage cache; empty means data/cache/eval of the project")

    @field_validator("metrics")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        try:
            names = tuple(str(parse_metric(name)) for name in value)
        except ConfigError as error:
            raise ValueError(str(error)) from None  # so that the file and the key are told with it
        if len(set(names)) != len(names) or not names:
            raise ValueError("name each metric once, and at least one")
        return names

    @model_validator(mode="after")
    def _fits(self) -> Suite:
        arms = [arm.name for arm in self.arms]
        datasets = [dataset.name for dataset in self.datasets]
        for kind, given in (("arm", arms), ("dataset", datasets)):
            twice = {name for name in given if given.count(name) > 1}
            if twice:
                raise ValueError(f"{kind} {sorted(twice)[0]!r} stands twice")
        if self.baseline not in arms:
            raise ValueError(f"baseline {self.baseline!r} is not an arm; arms are: {', '.join(arms)}")
        for metric in self.parsed_metrics():
            if metric.k is not None and metric.k > self.k:
                raise ValueError(f"metric {metric} looks deeper than k = {self.k} retrieved hits")
        return self

    def parsed_metrics(self) -> list[Metric]:
        return [parse_metric(name) for name in self.metrics]

    def plain(self) -> Spec:
        """As plain values, for the manifest; `load_suite` and `Suite.model_validate` read it back."""
        return self.model_dump(mode="json")


def load_suite(
    path: str | Path, *, arms: Iterable[str] = (), limit_queries: int | None = None, **changes: object
) -> Suite:
    """Read a suite: a file, or one that comes with the package, by its path in the project (`eval/suites/tiny.toml`).

    `arms` keeps those (and the baseline), `limit_queries` and `changes` replace what the file says. The file's key
    `arms_from` names another suite, by its path from this one, whose arms come before its own.

    Raises `ConfigError` that names the file, the key and its value.
    """
    file = Path(path) if Path(path).exists() else shipped(str(path)) or Path(path)
    values = _table(file)
    if "arms_from" in values:
        values["arms"] = [*_arms_of(file, values.pop("arms_from")), *values.get("arms", [])]
    values |= {key: value for key, value in changes.items() if value is not None}
    if limit_queries is not None:
        values["limit_queries"] = limit_queries
    return narrowed(make_suite(values, str(file)), arms)


def _table(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"suite {file} does not exist; suites lie in eval/suites/") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"suite {file} is not valid TOML: {error}") from None
    except OSError as error:
        raise ConfigError(f"suite {file} cannot be read: {error.strerror}; name a suite's file") from None


def _arms_of(file: Path, other: object) -> list[Any]:
    """The arms of the suite `other`, named in `file`. They are written out in the manifest like own ones."""
    if not isinstance(other, str):
        raise ConfigError(f"suite {file}: arms_from = {other!r}; name the file of another suite")
    try:
        shared = _table(file.parent / other).get("arms")
    except ConfigError as error:
        raise ConfigError(f"suite {file}: arms_from = {other!r}: {error}") from None
    if not isinstance(shared, list):
        raise ConfigError(f"suite {file}: arms_from = {other!r}: no arms stand there; name the suite that has them")
    return shared


def make_suite(values: Mapping[str, Any], source: str = "suite") -> Suite:
    """A suite from plain values, with errors that name the key."""
    try:
        return Suite.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        given = first.get("input")
        shown = f" = {given!r}" if isinstance(given, str | int | float | bool) else ""
        rooms: dict[str, type[BaseModel]] = {"arms": ArmSpec, "datasets": DatasetSpec}
        room = rooms.get(str(first["loc"][0]), Suite) if first["loc"] else Suite
        what = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            what = f"unknown key; known are: {', '.join(room.model_fields)}"
        raise ConfigError(": ".join(part for part in (source, f"{key}{shown}", what) if part)) from None


def narrowed(suite: Suite, arms: Iterable[str]) -> Suite:
    """The suite with these arms only; the baseline stays if it is among them, else the first one takes its place."""
    wanted = list(arms)
    if not wanted:
        return suite
    known = [arm.name for arm in suite.arms]
    for name in wanted:
        if name not in known:
            raise ConfigError(f"suite {suite.name!r} has no arm {name!r}; arms are: {', '.join(known)}")
    kept = tuple(arm for arm in suite.arms if arm.name in wanted)
    baseline = suite.baseline if suite.baseline in wanted else kept[0].name
    return suite.model_copy(update={"arms": kept, "baseline": baseline})
