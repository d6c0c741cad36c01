"""Gates, comparisons, verification: the exit statuses and what makes two runs incomparable."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from smartmem.errors import ConfigError, DataError, IncomparableRuns
from smartmem.evaluation.compare import changed_queries, compare_arms, compare_runs, show_query
from smartmem.evaluation.gate import (
    PASS,
    REGRESSION,
    UNMEASURABLE,
    gate,
    load_baseline,
    load_margins,
    write_baseline,
)
from smartmem.evaluation.results import RunResult, load_run
from smartmem.evaluation.runner import run_suite
from smartmem.evaluation.stats import holm
from smartmem.evaluation.suite import narrowed
from smartmem.evaluation.verify import verify
from tests.support.data import ROOT
from tests.support.evaluation import small_suite


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def run(cache: Path) -> RunResult:
    return run_suite(small_suite(cache, latency_queries=0))


def with_means(baseline: Path, change: float) -> Path:
    values = json.loads(baseline.read_text())
    for arms in values["datasets"].values():
        for figures in arms["arms"].values():
            for name in figures:
                figures[name] += change
    baseline.write_text(json.dumps(values))
    return baseline


@pytest.mark.parametrize(
    ("change", "status", "state"),
    [(0.0, PASS, "held"), (0.009, PASS, "held"), (0.011, REGRESSION, "regressed"), (-0.5, PASS, "improved")],
)
def test_a_figure_may_fall_by_its_margin(
    run: RunResult, tmp_path: Path, change: float, status: int, state: str
) -> None:
    found = gate(run, with_means(write_baseline(run, tmp_path / "b.json"), change))
    assert found.status == status
    assert {row.state for row in found.rows} == {state}
    assert ("regressed" in str(found)) == (status == REGRESSION)


def test_margins_by_metric(run: RunResult, tmp_path: Path) -> None:
    baseline = with_means(write_baseline(run, tmp_path / "b.json"), 0.05)
    assert gate(run, baseline, {"default": 0.06}).status == PASS
    assert gate(run, baseline, {"default": 0.06, "nDCG@10": 0.01}).status == REGRESSION
    (tmp_path / "g.toml").write_text('[margins]\ndefault = 0.02\n"nDCG@10" = 0.01\n')
    assert load_margins(tmp_path / "g.toml") == {"default": 0.02, "nDCG@10": 0.01}
    (tmp_path / "g.toml").write_text("[margins]\ndefault = -1\n")
    with pytest.raises(ConfigError, match="at least 0"):
        load_margins(tmp_path / "g.toml")
    assert load_margins(ROOT / "eval" / "gates.toml")["default"] > 0


def test_what_was_not_measured_is_2_not_1(run: RunResult, cache: Path, tmp_path: Path) -> None:
    baseline = write_baseline(run, tmp_path / "b.json")
    fewer = run_suite(small_suite(cache, latency_queries=0, limit_queries=30))
    assert gate(fewer, baseline).status == UNMEASURABLE
    assert "other queries" in str(gate(fewer, baseline))
    no_mock = run_suite(small_suite(cache, latency_queries=0, arms=[{"name": "bm25", "retriever": "bm25"}]))
    found = gate(no_mock, baseline)
    assert found.status == UNMEASURABLE
    assert {row.arm for row in found.rows if row.state == "unmeasurable"} == {"mock"}
    broken = [{"name": "mock", "retriever": "psychic"}, {"name": "bm25", "retriever": "bm25"}]
    assert "psychic" in str(gate(run_suite(small_suite(cache, latency_queries=0, arms=broken)), baseline))


def test_a_broken_baseline_names_the_key(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        load_baseline(tmp_path / "none.json")
    (tmp_path / "b.json").write_text('{"suite": "x", "average": "macro"}')
    with pytest.raises(DataError, match="datasets"):
        load_baseline(tmp_path / "b.json")


def test_the_committed_baseline_of_the_tiny_suite_holds(tmp_path: Path) -> None:
    """All arms, those with a model too: a change of retrieval that costs recall has to be seen and decided on."""
    from smartmem.evaluation.suite import load_suite

    baseline = load_baseline(ROOT / "eval" / "baselines" / "tiny.json")
    suite = load_suite(ROOT / "eval" / "suites" / "tiny.toml", cache=str(tmp_path), latency_queries=0)
    found = gate(run_suite(suite), baseline, load_margins(ROOT / "eval" / "gates.toml"))
    assert {row.arm for row in found.rows} == {arm.name for arm in suite.arms}
    assert {row.state for row in found.rows} <= {"held", "improved"}, str(found)


def test_two_runs_are_compared_query_by_query(run: RunResult, cache: Path) -> None:
    arms: list[dict[str, Any]] = [
        {"name": "mock", "embedder": {"name": "mock", "dim": 16}, "retriever": "dense"},
        {"name": "bm25", "retriever": {"name": "bm25", "k1": 0.0, "b": 0.0}},
    ]
    other = run_suite(small_suite(cache, latency_queries=0, arms=arms))
    found = {(row.arm, row.metric): row for row in compare_runs(run, other)}
    same, changed = found["mock", "nDCG@10"], found["bm25", "nDCG@10"]
    assert same.paired.difference == 0
    assert same.paired.ties > 100
    assert changed.mean_b - changed.mean_a == pytest.approx(changed.paired.difference)
    assert changed.p_holm is not None
    assert changed.paired.p is not None
    assert changed.p_holm >= changed.paired.p


def test_runs_over_other_queries_are_refused(run: RunResult, cache: Path) -> None:
    with pytest.raises(IncomparableRuns, match=r"differ in their queries or qrels.*same limits"):
        compare_runs(run, run_suite(small_suite(cache, latency_queries=0, limit_queries=30)))
    with pytest.raises(IncomparableRuns, match="macro averages"):
        compare_runs(run, run_suite(small_suite(cache, latency_queries=0, average="micro")))


def test_wins_and_losses_and_one_query_in_every_arm(run: RunResult) -> None:
    whole = compare_arms(run, "mock", "bm25")
    assert whole.paired.lo is not None
    assert whole.paired.hi is not None
    assert 0 < whole.paired.lo <= whole.paired.difference <= whole.paired.hi
    assert whole.mean_b - whole.mean_a == pytest.approx(whole.paired.difference)
    told = next(row for row in run.comparisons if row["metric"] == whole.metric)
    assert told["arm"] == "mock", "the baseline of this run is the other arm: the same difference with the other sign"
    assert (whole.paired.difference, whole.paired.p) == pytest.approx((-told["difference"], told["p"]))
    rows = changed_queries(run, "mock", "bm25")
    assert len(rows) > 50
    assert [abs(row.change) for row in rows] == sorted((abs(row.change) for row in rows), reverse=True)
    assert rows[0].text  # our own data may be shown
    shown = show_query(run, rows[0].query_id)
    assert [row["arm"] for row in shown] == ["mock", "bm25"]
    assert shown[0]["question"] == rows[0].text
    assert all(gold["text"] for gold in shown[0]["gold"])
    with pytest.raises(ConfigError, match="no arm 'x'; it has: mock, bm25"):
        changed_queries(run, "x", "bm25")
    with pytest.raises(ConfigError, match="no query 'q'; ids like it: q001"):
        show_query(run, "q")


def test_verify_runs_again_from_the_manifest(run: RunResult, cache: Path) -> None:
    found = verify(run)
    assert found.ok
    assert found.largest <= 1e-6
    # Two arms and three metrics: means with their ends and four counts, categories, and the tests of one arm.
    assert {row["figure"] for row in found.rows} >= {"mean", "lo", "hi", "scored", "failed", "difference", "mde", "p"}
    assert sum(row["metric"] in run.suite.metrics for row in found.rows) == 2 * 3 * 7
    forged = json.loads(json.dumps(run.metrics))
    forged["smartmem-tiny"]["bm25"]["nDCG@10"]["mean"] += 1e-3
    changed = RunResult(
        suite=run.suite, metrics=forged, comparisons=[], curves={}, latency={}, manifest=run.manifest,
        per_query=run.per_query,
    )  # fmt: skip
    assert not verify(changed).ok
    other = json.loads(json.dumps(run.manifest))
    other["datasets"]["smartmem-tiny"]["sha256"] = "0" * 64
    changed.manifest = other
    with pytest.raises(IncomparableRuns, match="sha256 was 000000000000"):
        verify(changed)


def test_the_committed_report_gives_the_same_figures_again(tmp_path: Path) -> None:
    """Its arms without a model, to 1e-6; `smartmem eval verify eval/reports/example` runs all of them."""
    committed = load_run(ROOT / "eval" / "reports" / "example")
    assert committed.errors == {}
    assert committed.manifest["git"]["dirty"] is False
    exact = narrowed(committed.suite, ["mock", "bm25"])
    metrics = {name: {arm: rows[arm] for arm in ("mock", "bm25")} for name, rows in committed.metrics.items()}
    tests = [test for test in committed.comparisons if test["arm"] == "mock"]
    for test, p in zip(tests, holm([test["p"] for test in tests]), strict=True):
        test["p_holm"] = p  # over this part of the grid
    found = verify(replace(committed, suite=exact, metrics=metrics, comparisons=tests), cache=str(tmp_path))
    assert found.ok, [row for row in found.rows if not row["ok"]]
    assert found.compared > 150
