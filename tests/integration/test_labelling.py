"""A user's chats become a labelled set that the bench can run on."""

from pathlib import Path

import pytest

from smartmem.chat.importers import parse
from smartmem.errors import ConfigError, DataError
from smartmem.evaluation.datasets import load_dataset, write_template
from smartmem.evaluation.datasets.labelling import LabelSet
from smartmem.evaluation.runner import run_suite
from tests.support.data import ROOT
from tests.support.evaluation import small_suite


@pytest.fixture
def labels() -> LabelSet:
    talks = [parsed.conversation for parsed in parse(ROOT / "data" / "tiny", "tiny")][:4]
    return LabelSet(talks)


def test_suggest_label_save_load_run(labels: LabelSet, tmp_path: Path) -> None:
    found = labels.suggest("tiny-d001", "Which city does the user live in? Leeds?")
    assert found
    assert any("Leeds" in turn.text for turn in found)
    assert all(turn.found_by for turn in found)
    assert len({turn.turn_id for turn in found}) == len(found)
    best = next(turn for turn in found if "Leeds" in turn.text)
    labels.add("tiny-d001", "Where does the user live?", [best.turn_id, best.turn_id], category="city", answer="Leeds")
    labels.add("tiny-d001", "Does the user own a boat?", [])
    file = labels.save(tmp_path / "mine.jsonl")
    data = load_dataset("jsonl", file)
    assert [query.relevant for query in data.queries] == [(f"tiny-d001/{best.turn_id}",), ()]
    assert data.queries[1].no_answer
    result = run_suite(small_suite(tmp_path / "c", datasets=[{"name": "jsonl", "path": str(file)}], latency_queries=0))
    assert result.metrics["jsonl"]["bm25"]["recall@5"]["scored"] == 1
    with pytest.raises(DataError, match="exists already"):
        labels.save(file)


def test_what_cannot_be_labelled_is_refused(labels: LabelSet, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no turn 'x'"):
        labels.add("tiny-d001", "?", ["x"])
    with pytest.raises(ConfigError, match="blank"):
        labels.add("tiny-d001", " ", [])
    with pytest.raises(ConfigError, match="no conversation 'c'"):
        labels.suggest("c", "?")
    with pytest.raises(DataError, match="no label"):
        labels.save(tmp_path / "x.jsonl")
    with pytest.raises(DataError, match="no conversation to label"):
        LabelSet([])
    talks = [parsed.conversation for parsed in parse(write_template(tmp_path / "t.jsonl"), "jsonl")]
    assert LabelSet(talks).suggest("chat-1", "爬山")[0].turn_id == "m3"
