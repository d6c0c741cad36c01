"""Suites: what is read, what is refused, and that the shipped ones are sound."""

from pathlib import Path

import pytest

from smartmem.errors import ConfigError
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


def test_a_missing_suite_says_where_suites_lie(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="eval/suites"):
        load_suite(tmp_path / "none.toml")


@pytest.mark.parametrize("path", sorted((ROOT / "eval" / "suites").glob("*.toml")), ids=lambda path: path.stem)
def test_every_shipped_suite_can_be_read(path: Path) -> None:
    suite = load_suite(path)
    assert suite.name == path.stem
