"""What a history leaves active, on a history so small that every figure can be told by hand."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from smartmem.errors import ModelError, Unmeasurable
from smartmem.evaluation.datasets.gold import Gold, GoldDecision, GoldFact, GoldTurn
from smartmem.evaluation.memory_quality import Once, evaluate_extraction
from smartmem.evaluation.memory_state import evaluate_state
from smartmem.memory.comparators import create_comparator
from smartmem.memory.compare import Comparison, Relation
from smartmem.memory.extract.base import Extraction
from smartmem.memory.facts import Candidate, Fact, Message

DAY = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)
SAID = {
    "t1": "I live in Leeds",
    "t2": "I live in Bristol now",
    "t3": "I'm allergic to nuts",
    "t4": "I'm allergic to nuts",
}
GOLD = [
    ("f1", "t1", "ADD", None, "unrelated"),
    ("f2", "t2", "UPDATE", "f1", "update"),
    ("f3", "t3", "ADD", None, "unrelated"),
    ("f4", "t4", "NONE", "f3", "duplicate"),
]


@dataclass
class Scripted:
    """Says for each message what it is told to say."""

    told: dict[str, list[str]] = field(default_factory=lambda: {turn: [text] for turn, text in SAID.items()})

    def extract(self, message: Message) -> Extraction:
        said = self.told.get(message.source_message_id or "", [])
        return Extraction(
            facts=tuple(Candidate(memory_type="fact", content=s, slot=slot(s), confidence=0.9) for s in said)
        )


def slot(said: str) -> str | None:
    return "city" if "live" in said else "allergy:nut" if "nuts" in said else None


def gold() -> Gold:
    turns = tuple(
        GoldTurn(id=turn, dialogue_id="d", conversation_id="c", user_id=1, text=text, language="en",
                 occurred_at=DAY + dt.timedelta(hours=i))
        for i, (turn, text) in enumerate(SAID.items())
    )  # fmt: skip
    facts = tuple(
        GoldFact(id=fact, turn_id=turn, user_id=1, language="en", span=(0, 1), memory_type="fact", content=SAID[turn],
                 slot="", sensitivity_level=0, is_explicit=False)
        for fact, turn, *_ in GOLD
    )  # fmt: skip
    decisions = tuple(
        GoldDecision(id=f"d{fact}", user_id=1, turn_id=turn, fact_id=fact, operation=op, target_fact_id=target,
                     relation=relation)
        for fact, turn, op, target, relation in GOLD
    )  # fmt: skip
    return Gold(turns=turns, facts=facts, decisions=decisions)


def counts(told: dict[str, list[str]]) -> dict[str, int]:
    report = evaluate_state(Scripted({**Scripted().told, **told}), create_comparator("rules"), gold())
    return {
        name: value if isinstance(value := getattr(report, name), int) else len(value)
        for name in report.__dataclass_fields__
    }


RIGHT = {"stale": 0, "doubled": 0, "lost": 0, "unknown": 0, "active": 2, "removed": 1, "repeated": 1, "valid": 2}


def test_right_decisions_leave_what_the_labels_have() -> None:
    assert counts({}) == RIGHT


def test_an_update_that_was_not_extracted_leaves_the_old_value() -> None:
    assert counts({"t2": []}) == {**RIGHT, "stale": 1, "valid": 1}


def test_what_the_labels_do_not_know_is_counted() -> None:
    assert counts({"t1": ["I live in Leeds", "grass is green"]}) == {**RIGHT, "unknown": 1, "active": 3}


class AllNew:
    """Sees nothing in common between any two texts."""

    def compare(self, fact: Fact, rows: Sequence[Mapping[str, Any]]) -> list[Comparison]:
        return [Comparison(relation=Relation.UNRELATED, score=0.0, reason="") for _ in rows]


def test_a_repeat_in_other_words_that_is_kept_is_a_double() -> None:
    told = {**Scripted().told, "t4": ["as I said I'm allergic to nuts"]}
    report = evaluate_state(Scripted(told), AllNew(), gold())
    assert (report.doubled, report.stale) == (("as I said I'm allergic to nuts",), ("I live in Leeds",))


def test_what_is_wrongly_replaced_is_lost() -> None:
    made = counts({"t3": ["I'm allergic to nuts", "I live in a house of nuts"]})
    assert (made["lost"], made["unknown"]) == (1, 1)


def test_an_unsure_update_counts_where_it_changes_a_memory_and_nowhere_else() -> None:
    class Unsure(Scripted):
        def extract(self, message: Message) -> Extraction:
            found = super().extract(message)
            if message.source_message_id in ("t2", "t4"):
                return Extraction(unsure=tuple(replace(one, unsure=True) for one in found.facts))
            return found

    report = evaluate_state(Unsure(), create_comparator("rules"), gold())
    assert (report.stale, report.removed, report.valid, report.repeated, report.active) == ((), 1, 2, 0, 2)


@dataclass
class Moody(Scripted):
    """Fails on one message, and counts how often it is asked."""

    asked: list[str] = field(default_factory=list)

    def extract(self, message: Message) -> Extraction:
        self.asked.append(str(message.source_message_id))
        if message.source_message_id == "t2":
            raise ModelError("no answer")
        return super().extract(message)


def test_an_extractor_is_asked_once_a_message_and_a_failed_message_says_nothing() -> None:
    moody = Moody()
    once = Once(moody)
    facts = evaluate_extraction(once, gold())
    state = evaluate_state(once, create_comparator("rules"), gold())
    assert sorted(moody.asked) == sorted(SAID)
    assert list(facts.failed) == ["t2"]
    assert state.stale == ("I live in Leeds",)


def test_without_decisions_nothing_is_measured() -> None:
    with pytest.raises(Unmeasurable):
        evaluate_state(Scripted(), create_comparator("rules"), Gold(turns=gold().turns, facts=(), decisions=()))
