"""Runs from end to end: outcomes, the cache, faults of one arm, resuming after a kill, executors."""

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from joblib.externals.loky import get_reusable_executor

from smartmem.errors import ConfigError, DataError, Unmeasurable
from smartmem.evaluation.executors import _gather, groups_of, run_group
from smartmem.evaluation.metrics import Outcome
from smartmem.evaluation.results import RunResult, load_run
from smartmem.evaluation.runner import plan, run_suite
from smartmem.evaluation.usage import CountedEmbedder, Usage
from smartmem.rag.registry import register
from tests.support.data import ROOT
from tests.support.evaluation import BackwardsReranker, small_suite

ARMS = [{"name": "bm25", "retriever": "bm25"}]


def costs(result: RunResult) -> dict[str, dict[str, float]]:
    return {cell["arm"]: cell["costs"] for cell in result.manifest["cells"]}


def test_a_run_has_every_query_in_one_of_four_states(tmp_path: Path) -> None:
    result = run_suite(small_suite(tmp_path / "c"), tmp_path / "run")
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert set(metrics) == {"smartmem-tiny"}
    for arm in ("mock", "bm25"):
        for row in metrics["smartmem-tiny"][arm].values():
            assert set(row) == {"mean", "lo", "hi", "scored", "ineligible", "failed", "not_run"}
            assert row["lo"] <= row["mean"] <= row["hi"]
            assert sum(row[str(state)] for state in Outcome) == len(result.per_query) / 2
            assert row["ineligible"] > 0  # questions without an answer are counted, not dropped
    assert (
        metrics["smartmem-tiny"]["bm25"]["nDCG@10"]["mean"] > metrics["smartmem-tiny"]["mock"]["nDCG@10"]["mean"] + 0.2
    )
    assert {(t["arm"], t["metric"]) for t in result.comparisons} == {("mock", m) for m in result.suite.metrics}
    assert all(t["p_holm"] >= t["p"] for t in result.comparisons)


def test_a_run_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    result = run_suite(small_suite(tmp_path / "c"), tmp_path / "run")
    again = load_run(tmp_path / "run")
    assert again.metrics == result.metrics
    assert again.suite == result.suite
    assert list(again.per_query["nDCG@10"].dropna()) == list(result.per_query["nDCG@10"].dropna())
    assert again.table() == result.table()
    (tmp_path / "run" / "curves.json").unlink()
    with pytest.raises(DataError, match=r"curves\.json is missing"):
        load_run(tmp_path / "run")


def test_the_manifest_says_what_it_takes_to_run_again(tmp_path: Path) -> None:
    manifest = run_suite(small_suite(tmp_path / "c")).manifest
    for key in ("git", "locks", "versions", "hardware", "tie_rule", "seed", "wall_s", "peak_memory_mb", "suite"):
        assert manifest[key], key
    data = manifest["datasets"]["smartmem-tiny"]
    assert len(data["sha256"]) == len(data["qrels_sha256"]) == 64
    mock = next(cell for cell in manifest["cells"] if cell["arm"] == "mock")
    assert mock["model_fingerprint"]
    assert mock["spec"]["embedder"]["dim"] == 16
    assert manifest["seeds"] == {
        "sample": manifest["seed"],
        "bootstrap": manifest["seed"],
        "permutation": manifest["seed"] + 1,
    }
    # The mock embedder reads no tokens; what it was asked is counted all the same.
    assert manifest["usage"]["calls"] == mock["costs"]["model_calls"] > 3
    assert manifest["usage"]["texts"] == mock["costs"]["model_texts"] > 700
    assert manifest["usage"]["tokens"] == 0
    assert manifest["usage"]["not_counted"] == []
    again = run_suite(small_suite(tmp_path / "c")).manifest
    assert again["usage"]["calls"] == 0
    anew = run_suite(small_suite(tmp_path / "c", latency_queries=0), resume=False).manifest
    assert anew["usage"]["texts"] == 638 + 144, "with nothing cached the vectors are computed anew as well"


def test_a_second_run_computes_nothing_and_a_new_reranker_embeds_nothing(tmp_path: Path) -> None:
    suite = small_suite(tmp_path / "c")
    first, second = run_suite(suite), run_suite(suite)
    assert costs(first)["mock"]["queries_run"] > 100
    assert [row["queries_run"] for row in costs(second).values()] == [0, 0]
    assert second.metrics == first.metrics
    assert all(row["from_cache"] for row in second.latency["smartmem-tiny"].values())
    reranked = small_suite(
        tmp_path / "c",
        baseline="mock",
        arms=[
            {"name": "mock", "embedder": {"name": "mock", "dim": 16}, "retriever": "dense"},
            {
                "name": "mock+",
                "embedder": {"name": "mock", "dim": 16},
                "retriever": "dense",
                "reranker": "test-backwards",
                "rerank_top": 5,
            },
        ],
        latency_queries=0,
    )
    assert plan(reranked).cells[1].costs is not None
    before = BackwardsReranker.calls
    third = run_suite(reranked)
    assert costs(third)["mock+"]["queries_run"] == 0
    assert "texts_embedded" not in costs(third)["mock+"]
    done = BackwardsReranker.calls - before
    assert done > 100
    run_suite(reranked)
    assert BackwardsReranker.calls - before == done
    run_suite(reranked, resume=False)
    assert BackwardsReranker.calls - before == 2 * done


def test_reranking_changes_the_head_only(tmp_path: Path) -> None:
    arms = [*ARMS, {"name": "back", "retriever": "bm25", "reranker": "test-backwards", "rerank_top": 4}]
    frame = run_suite(small_suite(tmp_path / "c", arms=arms, latency_queries=0)).per_query
    plain, back = (list(frame[frame["arm"] == arm]["hits"]) for arm in ("bm25", "back"))
    for before, after in zip(plain, back, strict=True):
        assert list(after[:4]) == list(before[:4])[::-1]
        assert list(after[4:]) == list(before[4:])


def test_a_failed_query_counts_0_and_stays(tmp_path: Path) -> None:
    arms = [*ARMS, {"name": "flaky", "retriever": {"name": "test-flaky", "word": "the"}}]
    result = run_suite(small_suite(tmp_path / "c", arms=arms))
    row = result.metrics["smartmem-tiny"]["flaky"]["nDCG@10"]
    assert row["failed"] > 0
    frame = result.per_query
    failed = frame[(frame["arm"] == "flaky") & (frame["outcome"] == "failed")]
    assert (failed["nDCG@10"] == 0).all()
    assert failed["reason"].str.contains("TransientModelError: the model took too long").all()
    assert row["mean"] < result.metrics["smartmem-tiny"]["bm25"]["nDCG@10"]["mean"]
    again = run_suite(small_suite(tmp_path / "c", arms=arms))
    assert costs(again)["flaky"]["queries_run"] >= row["failed"]  # a failure is tried again, never cached


@pytest.mark.parametrize(
    ("arm", "message"),
    [
        ({"retriever": "psychic"}, "unknown retriever 'psychic'; known are: bm25"),
        ({"retriever": {"name": "bm25", "k9": 1}}, "takes no option 'k9'"),
        ({"retriever": "dense"}, "needs an embedder"),
        ({"retriever": "dense", "embedder": {"name": "onnx", "model": "no-such-model"}}, "no-such-model"),
    ],
)
def test_an_arm_that_cannot_run_is_named_and_the_others_go_on(
    tmp_path: Path, arm: dict[str, Any], message: str
) -> None:
    suite = small_suite(tmp_path / "c", arms=[*ARMS, {"name": "broken"} | arm])
    shown = str(plan(suite))
    assert "cannot run" in shown
    assert message in shown
    result = run_suite(suite, tmp_path / "run")
    assert message in result.errors["smartmem-tiny/broken"]
    row = result.metrics["smartmem-tiny"]["broken"]["nDCG@10"]
    assert row["mean"] is None
    assert row["not_run"] == len(result.per_query) / 2
    assert result.metrics["smartmem-tiny"]["bm25"]["nDCG@10"]["scored"] > 100
    assert load_run(tmp_path / "run").errors == result.errors


def test_documents_as_transcripts_give_nearly_the_same_turns(tmp_path: Path) -> None:
    session = run_suite(
        small_suite(tmp_path / "c", arms=ARMS, datasets=[{"name": "smartmem-tiny", "documents": "session"}])
    )
    turn = run_suite(small_suite(tmp_path / "c", arms=ARMS))
    values = [r.metrics["smartmem-tiny"]["bm25"]["recall@5"]["mean"] for r in (session, turn)]
    assert abs(values[0] - values[1]) < 0.1


def test_restricting_to_the_own_conversation_never_returns_another_users_turn(tmp_path: Path) -> None:
    frame = run_suite(small_suite(tmp_path / "c", arms=ARMS)).per_query
    for own, hits in zip(frame["conversation_id"], frame["hits"], strict=True):
        assert all(hit.startswith(f"{own}/") for hit in hits)
    open_frame = run_suite(
        small_suite(tmp_path / "c", arms=ARMS, datasets=[{"name": "smartmem-tiny", "restrict": False}])
    ).per_query
    pairs = zip(open_frame["conversation_id"], open_frame["hits"], strict=True)
    assert any(not hit.startswith(f"{own}/") for own, hits in pairs for hit in hits)


def test_samples_and_splits_are_chosen_before_anything_runs(tmp_path: Path) -> None:
    few = run_suite(small_suite(tmp_path / "c", limit_queries=20))
    assert len(few.per_query) == 40
    split = [{"name": "smartmem-tiny", "conversations": ["user-101"]}]
    one = run_suite(small_suite(tmp_path / "c", datasets=split))
    assert set(one.per_query["conversation_id"]) == {"user-101"}
    assert one.metrics["smartmem-tiny"]["bm25"]["nDCG@10"]["lo"] is None  # one cluster has no interval
    with pytest.raises(Unmeasurable, match="no conversation 'user-0'"):
        run_suite(small_suite(tmp_path / "c", datasets=[{"name": "smartmem-tiny", "conversations": ["user-0"]}]))


def test_a_cut_off_that_takes_everything_is_pointed_out(tmp_path: Path) -> None:
    result = run_suite(
        small_suite(tmp_path / "c", metrics=["session:recall@20", "session:nDCG@20", "recall@5"], arms=ARMS)
    )
    assert list(result.manifest["saturated"]["smartmem-tiny"]) == ["session:recall@20"]


SCRIPT = """
import os, sys, threading
from pathlib import Path
import smartmem.evaluation.cache as cache
from smartmem.evaluation.runner import run_suite
from smartmem.rag.registry import create, register
from tests.support.evaluation import small_suite
cache._COMMIT_S = 0.0
@register("retriever", "test-stops")
class Stops:
    asked = 0
    def __init__(self):
        self.inner = create("retriever", "bm25")
    def index(self, chunks):
        self.inner.index(chunks)
    def retrieve(self, query, k):
        Stops.asked += 1
        if Stops.asked == int(os.environ["STOP_AT"]):
            print("stopped", flush=True)
            threading.Event().wait()
        return self.inner.retrieve(query, k)
arms = [{"name": "stops", "retriever": "test-stops"}]
suite = small_suite(Path(sys.argv[1]), baseline="stops", arms=arms, latency_queries=0)
result = run_suite(suite, sys.argv[2])
print(result.manifest["cells"][0]["costs"]["queries_from_cache"], flush=True)
"""


def test_a_killed_run_goes_on_with_the_next_query(tmp_path: Path) -> None:
    script = tmp_path / "run.py"
    script.write_text(SCRIPT, "utf-8")

    def start(stop_at: int, cache: str) -> subprocess.Popen[str]:
        environment = os.environ | {"STOP_AT": str(stop_at), "PYTHONPATH": str(ROOT)}
        return subprocess.Popen(
            [sys.executable, str(script), str(tmp_path / cache), str(tmp_path / f"run-{cache}")],
            env=environment, stdout=subprocess.PIPE, text=True, cwd=ROOT,
        )  # fmt: skip

    killed = start(60, "a")
    assert killed.stdout is not None
    assert killed.stdout.readline().strip() == "stopped"
    killed.send_signal(signal.SIGKILL)
    killed.communicate(timeout=30)
    assert not (tmp_path / "run-a" / "metrics.json").exists()
    resumed, _ = start(0, "a").communicate(timeout=120)
    assert int(resumed.strip()) == 59
    fresh, _ = start(0, "b").communicate(timeout=120)
    assert int(fresh.strip()) == 0
    assert load_run(tmp_path / "run-a").metrics == load_run(tmp_path / "run-b").metrics


@pytest.mark.parametrize("executor", ["joblib", "dask"])
def test_processes_give_the_same_figures(tmp_path: Path, executor: str) -> None:
    here = run_suite(small_suite(tmp_path / "a", latency_queries=0))
    there = run_suite(small_suite(tmp_path / "b", latency_queries=0, executor=executor, workers=2))
    assert there.metrics == here.metrics
    assert there.errors == {}


def test_a_local_cluster_says_nothing_of_itself(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(
        'name = "own"\nbaseline = "bm25"\nmetrics = ["nDCG@10"]\narms = [{ name = "bm25", retriever = "bm25" }]\n'
        'datasets = [{ name = "smartmem-tiny" }]\nexecutor = "dask"\nworkers = 2\ncache = "cache"\n',
        "utf-8",
    )
    done = subprocess.run(
        [sys.executable, "-c", "from smartmem.cli.app import main; main()", "eval", "run", "own.toml"],
        cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line for line in done.stderr.splitlines() if "distributed" in line or "Traceback" in line] == []


def test_a_cluster_is_used_by_its_address(tmp_path: Path) -> None:
    from distributed import Client, LocalCluster

    options = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": None}
    with LocalCluster(**options) as cluster, Client(cluster) as client:
        address = cluster.scheduler_address
        suite = small_suite(tmp_path / "b", latency_queries=0, executor="dask", scheduler=address)
        there = run_suite(suite)
        pids = client.run(os.getpid)
        worked = client.run(lambda: "smartmem.evaluation.cell" in __import__("sys").modules)
    assert len(set(pids.values()) - {os.getpid()}) == 2
    assert any(worked.values()), "the cells ran in the cluster's processes"
    assert there.errors == {}
    assert there.metrics == run_suite(small_suite(tmp_path / "a", latency_queries=0)).metrics


def test_a_worker_that_dies_takes_its_own_arms_only(tmp_path: Path) -> None:
    suite = small_suite(tmp_path / "c", latency_queries=0)
    groups = groups_of(suite)
    dead: Future[Any] = Future()
    dead.set_exception(MemoryError("worker killed"))
    fine: Future[Any] = Future()
    fine.set_result(run_group(suite.plain(), groups[1], True))

    cluster = SimpleNamespace(submit=lambda *_, left=[dead, fine], **__: left.pop(0))
    (lost, _), (kept, _) = _gather(cluster, suite, groups[:2], True)
    assert [cell.error for cell in lost] == ["MemoryError: worker killed"] * len(groups[0])
    assert all(cell.hits for cell in kept)


DYING = """
import os, signal
from pathlib import Path
from smartmem.rag.registry import register
@register("retriever", "test-dies")
class Dies:
    def __init__(self, marker: str, again: bool = True): self.marker, self.again = Path(marker), again
    def index(self, chunks): pass
    def restore(self, chunks): pass
    def delete(self, ids): pass
    def retrieve(self, query, k):
        if self.again or not self.marker.exists():
            self.marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return []
"""


def test_a_process_that_is_killed_ends_its_own_arm_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The out-of-memory killer's way: no exception, no exit handler. Once is mended by going on, twice is an error."""
    (tmp_path / "dying_part.py").write_text(DYING, "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{ROOT}")
    monkeypatch.setenv("SMARTMEM_COMPONENTS", "dying_part")
    get_reusable_executor().shutdown(wait=True)  # processes that an earlier test left know nothing of this component
    marker = str(tmp_path / "marker")
    arms = [
        {"name": "bm25", "retriever": "bm25"},
        {"name": "dies", "retriever": {"name": "test-dies", "marker": marker}},
        {"name": "once", "retriever": {"name": "test-dies", "marker": marker + "-2", "again": False}},
    ]
    suite = small_suite(tmp_path / "c", arms=arms, latency_queries=0, executor="joblib", workers=2)
    result = run_suite(suite)
    assert list(result.errors) == ["smartmem-tiny/dies"]
    assert "died twice" in result.errors["smartmem-tiny/dies"]
    means = result.metrics["smartmem-tiny"]
    assert means["bm25"]["nDCG@10"]["mean"] > 0.3
    assert means["once"]["nDCG@10"]["not_run"] == 0
    assert means["dies"]["nDCG@10"]["not_run"] > 0


def test_tokens_are_counted_where_the_model_tells() -> None:
    class Model:
        dim, fingerprint, languages, tokens_read = 2, "m", (), 0

        def embed_documents(self, texts: list[str]) -> Any:
            self.tokens_read += sum(len(text.split()) for text in texts)
            return np.zeros((len(texts), 2), dtype=np.float32)

        embed_queries = embed_documents

    usage = Usage()
    counted = CountedEmbedder(Model(), usage)
    counted.embed_documents(["a b", "c"])
    counted.embed_queries(["d"])
    assert usage.costs() == {"model_calls": 2, "model_texts": 3, "model_tokens": 4}
    usage.add(1, None, None)
    assert usage.costs() == {"model_calls": 3, "model_texts": 4}


def test_with_nothing_cached_a_cross_encoder_reads_its_pairs_anew(tmp_path: Path) -> None:
    reranker = {"name": "cross-encoder", "candidates": 3}
    arms = [{"name": "read", "retriever": "bm25", "reranker": reranker, "rerank_top": 3}]
    suite = small_suite(tmp_path / "c", baseline="read", arms=arms, latency_queries=0, limit_queries=6)
    first, anew = (run_suite(suite, resume=False).manifest["usage"] for _ in range(2))
    assert anew == first
    assert anew["tokens"] > 0


def test_a_query_that_brings_nothing_back_counts_0(tmp_path: Path) -> None:
    @register("retriever", "test-empty")
    class Empty:
        def index(self, chunks: Any) -> None: ...

        def retrieve(self, query: Any, k: int) -> list[Any]:
            return []

    arms = [{"name": "empty", "retriever": "test-empty"}]
    result = run_suite(small_suite(tmp_path / "c", baseline="empty", arms=arms, latency_queries=0))
    for row in result.metrics["smartmem-tiny"]["empty"].values():
        assert row["mean"] == row["lo"] == row["hi"] == 0.0
        assert row["scored"] == 116
        assert row["failed"] == row["not_run"] == 0


def test_a_scheduler_that_does_not_answer_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smartmem.evaluation.executors._CONNECT_S", 1.0)
    suite = small_suite(tmp_path / "c", executor="dask", scheduler="tcp://127.0.0.1:9")
    with pytest.raises(ConfigError, match=r"127\.0\.0\.1:9.*is it running"):
        run_suite(suite)
