"""Suites: what is read, what is refused, and that the shipped ones are sound."""

from pathlib import Path

import pytest

from smartmem.errors import ConfigError
from smartmem.evaluation.datasets import EvalQuery
from smartmem.evaluation.inputs import chosen_queries, dataset_of
from smartmem.evaluation.suite import load_suite, make_suite
from tests.support.data import ROOT

SUITE = """
name = "s"
baseline = "a"
metrics = ["ndcg@10"]
[[datasets]]
name = "smartmem-tiny"
[[arms]]
name = "a"
retriever = "bm25"
[[arms]]
name = "b"
embedder = { name = "mock", dim = 8 }
retriever = "dense"
reranker = "none"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "s.toml"
    path.write_text(SUITE, "utf-8")
    return path


def test_names_become_specifications_and_metrics_canonical(file: Path) -> None:
    suite = load_suite(file)
    assert suite.arms[0].retriever == {"name": "bm25"}
    assert suite.arms[1].reranker is None
    assert suite.metrics == ("nDCG@10",)
    assert make_suite(suite.plain()) == suite


def test_a_preset_fills_in_what_an_arm_does_not_name(file: Path) -> None:
    file.write_text(SUITE + '[[arms]]\nname = "p"\npreset = "balanced"\nembedder = "mock"\n', "utf-8")
    arm = load_suite(file).arms[-1]
    assert arm.embedder == {"name": "mock"}
    assert arm.retriever["name"]
    assert arm.reranker is not None
    assert arm.rerank_top == arm.reranker["candidates"]
    assert make_suite(load_suite(file).plain()).arms[-1] == arm
    file.write_text(SUITE + '[[arms]]\nname = "p"\npreset = "best"\n', "utf-8")
    with pytest.raises(ConfigError, match=r"arms.2.*unknown preset 'best'"):
        load_suite(file)


def test_the_command_line_narrows_a_suite(file: Path) -> None:
    assert [arm.name for arm in load_suite(file, arms=["b"]).arms] == ["b"]
    assert load_suite(file, arms=["b"]).baseline == "b"
    assert load_suite(file, limit_queries=5, cache="/x").limit_queries == 5
    with pytest.raises(ConfigError, match="no arm 'c'; arms are: a, b"):
        load_suite(file, arms=["c"])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name = "s"', 'name = "s"\ncolour = 1', "colour = 1: unknown key; known are: name"),
        (
            '[[arms]]\nname = "b"',
            '[[arms]]\nrerank = 3\nname = "b"',
            r"arms.1.rerank = 3: unknown key; known are: name, chunker",
        ),
        ('baseline = "a"', 'baseline = "z"', "baseline 'z' is not an arm; arms are: a, b"),
        ('name = "b"', 'name = "a"', "arm 'a' stands twice"),
        ('"ndcg@10"', '"ndcg@500"', "deeper than k = 100"),
        ('"ndcg@10"', '"goodness"', "unknown metric 'goodness'"),
        ('"ndcg@10"', '"ndcg@10", "nDCG@10"', "each metric once"),
        ('name = "s"', 'name = "../s"', "name = '../s'"),
        ('name = "s"', "name = ", "not valid TOML"),
    ],
)
def test_a_broken_suite_names_the_key(file: Path, old: str, new: str, message: str) -> None:
    file.write_text(SUITE.replace(old, new, 1), "utf-8")
    with pytest.raises(ConfigError, match=message) as caught:
        load_suite(file)
    assert str(file) in str(caught.value)


def test_arms_of_another_suite_come_first(file: Path, tmp_path: Path) -> None:
    (tmp_path / "deeper").mkdir()
    other = tmp_path / "deeper" / "t.toml"
    head = (
        'name = "t"\nbaseline = "a"\narms_from = "../s.toml"\nmetrics = ["MRR"]\n[[datasets]]\nname = "smartmem-tiny"\n'
    )
    other.write_text(head)
    suite = load_suite(other)
    assert suite.arms == load_suite(file).arms
    assert make_suite(suite.plain()) == suite
    other.write_text(head + '[[arms]]\nname = "c"\nretriever = "bm25"\n')
    assert [arm.name for arm in load_suite(other).arms] == ["a", "b", "c"]
    other.write_text(head + '[[arms]]\nname = "a"\nretriever = "bm25"\n')
    with pytest.raises(ConfigError, match="arm 'a' stands twice"):
        load_suite(other)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ('"none.toml"', r"t\.toml: arms_from = 'none\.toml': suite .*none\.toml does not exist"),
        ('["s.toml"]', r"arms_from = \['s\.toml'\]; name the file of another suite"),
        ('"t.toml"', r"arms_from = 't\.toml': no arms stand there"),
    ],
)
def test_arms_from_nowhere_are_refused(tmp_path: Path, value: str, message: str) -> None:
    other = tmp_path / "t.toml"
    other.write_text(f'name = "t"\nbaseline = "a"\narms_from = {value}\n[[datasets]]\nname = "smartmem-tiny"\n')
    with pytest.raises(ConfigError, match=message):
        load_suite(other)


def test_halves_share_no_cluster_and_leave_nothing_out(file: Path) -> None:
    def part(half: str) -> list[EvalQuery]:
        file.write_text(SUITE.replace('"smartmem-tiny"', f'"smartmem-tiny"\nhalf = "{half}"'))
        suite = load_suite(file)
        return chosen_queries(suite, suite.datasets[0], dataset_of(suite.datasets[0].model_dump_json())[0])

    whole, choosing, reporting = part(""), part("choosing"), part("reporting")
    assert sorted(q.id for q in (*choosing, *reporting)) == sorted(q.id for q in whole)
    clusters = [{q.cluster for q in queries} for queries in (choosing, reporting)]
    assert not clusters[0] & clusters[1]
    assert abs(len(clusters[0]) - len(clusters[1])) <= 1
    assert part("choosing") == choosing
    with pytest.raises(ConfigError, match=r"datasets.0.half = 'first'"):
        part("first")


def test_a_missing_suite_says_where_suites_lie(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="eval/suites"):
        load_suite(tmp_path / "none.toml")


@pytest.mark.parametrize("path", sorted((ROOT / "eval" / "suites").glob("*.toml")), ids=lambda path: path.stem)
def test_every_shipped_suite_can_be_read(path: Path) -> None:
    suite = load_suite(path)
    assert suite.name == path.stem
