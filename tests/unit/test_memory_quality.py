"""Extraction and decisions against labels: a perfect one is perfect, each kind of fault shows in its own figure."""

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from smartmem.errors import TransientModelError, Unmeasurable
from smartmem.evaluation.datasets.gold import Gold, load_gold
from smartmem.evaluation.memory_quality import (
    comparator_decider,
    evaluate_decisions,
    evaluate_extraction,
    match,
    token_f1,
)
from smartmem.memory.comparators import create_comparator
from smartmem.memory.extract import create_extractor
from smartmem.memory.facts import Candidate, Fact, Message


@pytest.fixture(scope="module")
def gold() -> Gold:
    return load_gold(split="odd")


class Oracle:
    """Says the labels, with one change."""

    def __init__(self, gold: Gold, change: str = "") -> None:
        self._facts, self._change = gold.facts_of(), change

    def extract(self, message: Message) -> Any:
        facts = self._facts[message.source_message_id or ""]
        if self._change == "fails" and facts:
            raise TransientModelError("down")
        made = [Candidate(memory_type=f.memory_type, content=f.content) for f in facts]
        if self._change == "types":
            made = [Candidate(memory_type="todo_hint", content=c.content) for c in made]
        if self._change == "noise":
            made.append(Candidate(memory_type="fact", content="Something that nobody said at all."))
        if self._change == "half":
            made = made[:1]
        return SimpleNamespace(facts=made)


def test_the_labels_themselves_are_perfect(gold: Gold) -> None:
    report = evaluate_extraction(Oracle(gold), gold)
    for figure in (report.precision, report.recall, report.f1):
        assert (figure.value, figure.lo, figure.hi) == (1.0, 1.0, 1.0)
    assert (report.exact, report.typed, report.noise) == (1.0, 1.0, 0.0)
    assert not report.missed
    assert not report.invented
    assert {row["f1"] for rows in report.by.values() for row in rows.values()} == {1.0}


def test_each_fault_shows_where_it_belongs(gold: Gold) -> None:
    noise = evaluate_extraction(Oracle(gold, "noise"), gold)
    assert noise.recall.value == 1.0
    assert noise.precision.value < 0.6
    assert noise.noise == 1.0
    types = evaluate_extraction(Oracle(gold, "types"), gold)
    assert types.f1.value == 1.0
    assert types.typed < 0.3
    assert types.by["type"]["preference"]["recall"] == 0.0
    half = evaluate_extraction(Oracle(gold, "half"), gold)
    assert half.precision.value == 1.0
    assert half.recall.value < 1.0
    assert len(half.missed) == half.recall.count - half.precision.count


def test_a_failing_extractor_misses_and_is_listed(gold: Gold) -> None:
    report = evaluate_extraction(Oracle(gold, "fails"), gold)
    assert report.recall.value == 0.0
    assert len(report.missed) == len(gold.facts)
    assert set(report.failed) == {fact.turn_id for fact in gold.facts}
    assert all("TransientModelError: down" in why for why in report.failed.values())


def test_matching_is_one_to_one_and_takes_the_best_sum() -> None:
    assert match(["I like tea."], ["i  LIKE tea"]) == [(0, 0, 1.0)]
    assert match(["我喜欢喝茶"], ["我喜欢喝绿茶", "我不喝茶"])[0][:2] == (0, 0)
    both = match(["a b c d", "a b c e"], ["a b c", "a b c d"])
    assert sorted(pair[:2] for pair in both) == [(0, 1), (1, 0)]
    assert match(["apples"], ["pears"]) == []
    assert match([], ["x"]) == match(["x"], []) == []
    assert token_f1("", "a") == 0.0


def test_the_rules_are_better_than_the_mock_on_both_halves() -> None:
    for split in ("odd", "even"):
        half = load_gold(split=split)
        rules, mock = (evaluate_extraction(create_extractor(name), half) for name in ("rules", "mock"))
        assert rules.f1.value > mock.f1.value
        assert rules.noise < 0.2 < mock.noise
        assert rules.f1.lo is not None


def right(gold: Gold) -> Any:
    """A decider that knows the labels: it answers in the order in which it is asked."""
    answers = iter(gold.decisions)

    def made(fact: Fact, rows: Sequence[Mapping[str, Any]]) -> tuple[str, str | None]:
        decision = next(answers)
        active = {str(row["id"]) for row in rows}
        # The labels promise that a target is valid at that moment; so does the replay of them.
        assert decision.target_fact_id is None or decision.target_fact_id in active
        return decision.operation, decision.target_fact_id

    return made


def test_decisions_are_judged_one_by_one_on_the_labelled_state(gold: Gold) -> None:
    perfect = evaluate_decisions(right(gold), gold)
    assert perfect.accuracy.value == 1.0
    assert not perfect.wrong
    always = evaluate_decisions(lambda fact, rows: ("ADD", None), gold)
    adds = sum(1 for d in gold.decisions if d.operation == "ADD")
    assert always.accuracy.value == pytest.approx(adds / len(gold.decisions))
    assert {made for row in always.confusion.values() for made in row} == {"ADD"}
    blind = evaluate_decisions(lambda fact, rows: ("DELETE", "nothing"), gold)
    assert blind.operation_accuracy > blind.accuracy.value  # the operation alone may be right, the target is not


def test_a_failing_decider_is_wrong_and_listed(gold: Gold) -> None:
    def broken(fact: Fact, rows: Sequence[Mapping[str, Any]]) -> tuple[str, str | None]:
        raise TransientModelError("down")

    report = evaluate_decisions(broken, gold)
    assert report.accuracy.value == 0.0
    assert len(report.failed) == len(gold.decisions)


def test_the_chain_with_the_rules_comparator(gold: Gold) -> None:
    report = evaluate_decisions(comparator_decider(create_comparator("rules")), gold)
    assert report.accuracy.value > 0.75
    assert sum(sum(row.values()) for row in report.confusion.values()) == len(gold.decisions)


def test_no_messages_is_unmeasurable() -> None:
    empty = Gold(turns=(), facts=(), decisions=())
    with pytest.raises(Unmeasurable):
        evaluate_extraction(create_extractor("mock"), empty)
    with pytest.raises(Unmeasurable):
        evaluate_decisions(lambda fact, rows: ("ADD", None), empty)
