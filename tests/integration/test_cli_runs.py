"""A run looked at again from the command line: compared, verified, its queries shown; and the demo from end to end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from smartmem.evaluation.runner import run_suite
from smartmem.rag.models import fetch
from tests.support.cli import Cli
from tests.support.data import ROOT
from tests.support.evaluation import small_suite


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs that differ in one option of one arm."""
    folder = tmp_path_factory.mktemp("runs")
    run_suite(small_suite(folder / "cache", latency_queries=0), folder / "before")
    wider = [
        {"name": "mock", "embedder": {"name": "mock", "dim": 64}, "retriever": "dense"},
        {"name": "bm25", "retriever": "bm25"},
    ]
    run_suite(small_suite(folder / "cache", latency_queries=0, arms=wider), folder / "after")
    return folder


def test_two_runs_are_compared_arm_by_arm(cli: Cli, runs: Path) -> None:
    rows = cli.ok("eval", "compare", runs / "before", runs / "after", "--json").json
    same = [row for row in rows if row["arm"] == "bm25"]
    assert {row["paired"]["difference"] for row in same} == {0.0}
    assert any(row["paired"]["difference"] != 0 for row in rows if row["arm"] == "mock")
    told = cli.ok("eval", "compare", runs / "before", runs / "after", "--metric", "recall@5").out
    assert "b minus a" in told
    assert "nDCG@10" not in told


def test_two_arms_of_a_run_are_compared_query_by_query(cli: Cli, runs: Path) -> None:
    told = cli.ok("eval", "compare", runs / "before", "--arm", "mock", "--arm", "bm25").out
    assert "nDCG@10: bm25 minus mock is +0." in told
    changes = cli.ok("eval", "compare", runs / "before", "--arm", "mock", "--arm", "bm25", "--json").json
    assert {"query_id", "change"} <= changes[0].keys()
    one = cli("eval", "compare", runs / "before", "--arm", "mock")
    assert one.status == 2
    assert "--arm A --arm B" in one.err


def test_a_query_is_shown_with_its_gold_and_hits(cli: Cli, runs: Path) -> None:
    worst = cli.ok("eval", "show", runs / "before", "--worst", 3, "--json").json
    assert len(worst) == 3
    assert [row["nDCG@10"] for row in worst] == sorted(row["nDCG@10"] for row in worst)
    name = worst[0]["query_id"]
    assert name in cli.ok("eval", "show", runs / "before", "--arm", "mock", "--worst", 200).out
    told = cli.ok("eval", "show", runs / "before", "--query", name, "--arm", "bm25").out
    assert "smartmem-tiny / bm25" in told
    assert "gold " in told
    (row,) = cli.ok("eval", "show", runs / "before", "--query", name, "--arm", "bm25", "--json").json
    assert row["arm"] == "bm25"
    lost = cli("eval", "show", runs / "before", "--arm", "e5")
    assert lost.status == 2
    assert "no arm 'e5'; it has: mock, bm25" in lost.err


def test_a_run_is_verified_and_a_figure_that_was_changed_is_found(cli: Cli, runs: Path) -> None:
    told = cli.ok("eval", "verify", runs / "before").out
    assert told.startswith("reproduced: ")
    assert cli.ok("eval", "verify", runs / "before", "--json").json["ok"] is True
    file = runs / "before" / "metrics.json"
    kept = file.read_text("utf-8")
    figures = json.loads(kept)
    figures["smartmem-tiny"]["bm25"]["nDCG@10"]["mean"] += 0.01
    file.write_text(json.dumps(figures), "utf-8")
    try:
        changed = cli("eval", "verify", runs / "before")
    finally:
        file.write_text(kept, "utf-8")
    assert changed.status == 1
    assert "NOT reproduced" in changed.out
    assert "nDCG@10" in changed.out


def test_what_there_is_can_be_listed(cli: Cli) -> None:
    found = cli.ok("rag", "list", "--json").json
    assert {"chonkie", "fixed", "turn"} <= set(found["chunker"])
    assert "bm25" in cli.ok("rag", "list").out
    models = {row["name"]: row for row in cli.ok("models", "list", "--json").json}
    assert models["bge-small-en"]["task"]
    assert "reranker-en" in cli.ok("models", "list").out
    assert "smartmem-tiny" in cli.ok("data", "list").out
    assert cli.ok("data", "list", "--json").json["locomo"]["licence"]
    assert "638" in cli.ok("data", "show", "smartmem-tiny").out
    assert cli.ok("data", "show", "smartmem-tiny", "--json").json["turns"] == 638
    (place,) = cli.ok("data", "get", "smartmem-tiny", "--json").json["files"].values()
    assert Path(place) == ROOT / "data" / "tiny"
    assert place in cli.ok("data", "get", "smartmem-tiny").out


def test_the_demo_runs_twice_and_names_its_report(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("bge-small-en", "reranker-en"):
        fetch(name)
    monkeypatch.chdir(ROOT)
    first = cli.ok("demo", "--out", tmp_path / "out").out
    assert "638 messages, 638 added, 0 already there" in first
    assert "0 dead letters" in first
    report = Path(first.strip().splitlines()[-1].removeprefix("report: "))
    assert report == tmp_path / "out" / "report" / "report.html"
    assert "smartmem-tiny" in report.read_text("utf-8")
    monkeypatch.chdir(tmp_path)  # data/tiny and its suite come with the package
    again = cli.ok("demo", "--out", "out").out
    assert "638 messages, 0 added, 638 already there" in again
    away = cli("demo", "--data", "nowhere")
    assert away.status == 2
    assert "nowhere holds no dialogues.jsonl" in away.err


def test_each_stage_of_a_search_is_shown(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "smartmem.toml").write_text(
        'embedder = { name = "mock" }\nchat_search = { chunker = "turn", retriever = "bm25", reranker = "none" }\n',
        "utf-8",
    )
    cli.ok("data", "template", "chats.jsonl")
    cli.ok("import", "chats.jsonl")
    told = cli.ok("rag", "inspect", "--user", 2, "green tea or coffee").out
    assert "candidates in" in told
    assert "I gave up coffee for green tea" in told
    assert "answer: " in told
    found = cli.ok("rag", "inspect", "--user", 2, "--json", "green tea or coffee").json
    assert found["hits"][0]["chunk"]["text"].startswith("I gave up coffee")
