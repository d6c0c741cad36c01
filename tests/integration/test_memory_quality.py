"""What the `rules` extractor and comparator reach on smartmem-tiny: tuned on its odd half, reported on its even one.

The aims are precision .90, recall .75 and decisions .90 (issue E). The floors of the even half stand a little under
what was measured there, as a guard against getting worse; `python -m tests.integration.test_memory_quality` prints
the figures of both halves. Nobody has tuned on the even half, so its figures are the honest ones.
"""

from __future__ import annotations

import sys
from collections import Counter

import pytest

from smartmem.clock import ManualClock
from smartmem.db.engine import Database
from smartmem.evaluation.datasets.gold import Gold, Split, load_gold
from smartmem.evaluation.memory_quality import (
    DecisionReport,
    ExtractionReport,
    comparator_decider,
    evaluate_decisions,
    evaluate_extraction,
)
from smartmem.memory import govern
from smartmem.memory.comparators import create_comparator
from smartmem.memory.extract import create_extractor
from smartmem.memory.extract.signals import speaks_of_self
from tests.support.memory import Chain
from tests.support.pipeline import START

MIN_CONFIDENCE = 0.5
FLOORS: dict[str, dict[str, tuple[float, float]]] = {
    "odd": {"en": (0.88, 0.85), "zh": (0.90, 0.82)},
    "even": {"en": (0.62, 0.55), "zh": (0.80, 0.65)},
}
DECISIONS = {"odd": 0.92, "even": 0.83}


def extraction(gold: Gold) -> ExtractionReport:
    return evaluate_extraction(create_extractor("rules"), gold, min_confidence=MIN_CONFIDENCE)


def decisions(gold: Gold) -> DecisionReport:
    return evaluate_decisions(comparator_decider(create_comparator("rules")), gold)


@pytest.fixture(scope="module", params=["odd", "even"])
def half(request: pytest.FixtureRequest) -> tuple[Split, Gold]:
    return request.param, load_gold(split=request.param)


def test_facts_are_found_and_little_else(half: tuple[Split, Gold]) -> None:
    split, gold = half
    report = extraction(gold)
    for language, (precision, recall) in FLOORS[split].items():
        reached = report.by["language"][language]
        assert reached["precision"] >= precision, f"{split} {language}: {reached}"
        assert reached["recall"] >= recall, f"{split} {language}: {reached}"
    assert report.typed >= 0.9
    assert report.noise <= 0.06


def test_decisions_are_right(half: tuple[Split, Gold]) -> None:
    split, gold = half
    assert decisions(gold).accuracy.value >= DECISIONS[split]


def test_small_talk_yields_nothing() -> None:
    gold = load_gold(split="odd")
    small_talk = {turn.id for turn in gold.turns if "small_talk" in turn.phenomena}
    assert [said for turn, said in extraction(gold).invented if turn in small_talk] == []


def test_no_user_ends_with_doubles_and_what_was_replaced_is_inactive(sqlite_url: str) -> None:
    """The whole chain over the odd half: no two active memories of one user in one slot with the same words."""
    db = Database.open(sqlite_url, clock=ManualClock(START))
    chain = Chain(db)
    gold = load_gold(split="odd")
    for user_id in sorted({turn.user_id for turn in gold.turns}):
        govern.set_settings(db, user_id, sensitive_memory_enabled=True)
    for turn in gold.turns:
        days = (turn.occurred_at - START).total_seconds() / 86400
        chain.say(turn.text, turn.user_id, day=int(days) + 400)
    chain.extract()
    for user_id in sorted({turn.user_id for turn in gold.turns}):
        active = chain.items(user_id, status="active")
        hashes = Counter(item.content_hash for item in active)
        assert not [h for h, n in hashes.items() if n > 1]
        slots = Counter(item.slot for item in active if item.slot and not item.slot.startswith("todo"))
        assert not [slot for slot, n in slots.items() if n > 1], user_id
    db.close()


def test_most_messages_that_hold_nothing_cost_no_model_call() -> None:
    gold = load_gold(split="even")
    facts = gold.facts_of()
    sent = {turn.id for turn in gold.turns if speaks_of_self(turn.text)}
    assert [t.id for t in gold.turns if facts[t.id] and t.id not in sent] == []  # nothing is lost by not asking
    empty = [turn for turn in gold.turns if not facts[turn.id]]
    assert sum(turn.id not in sent for turn in empty) / len(empty) >= 0.25


def main() -> None:
    halves: tuple[Split, ...] = ("odd", "even")
    for split in halves:
        gold = load_gold(split=split)
        found, decided = extraction(gold), decisions(gold)
        print(
            f"{split}: precision {found.precision.value:.3f}, recall {found.recall.value:.3f}, noise {found.noise:.3f}"
        )
        for language, row in found.by["language"].items():
            print(
                f"  {language}: precision {row['precision']:.3f}, recall {row['recall']:.3f} of {row['gold']:.0f} facts"
            )
        print(f"  decisions {decided.accuracy.value:.3f} of {decided.accuracy.count}; {dict(decided.confusion)}")
        spared = sum(not speaks_of_self(turn.text) for turn in gold.turns)
        print(f"  messages that ask nothing of a model: {spared} of {len(gold.turns)}")


if __name__ == "__main__":
    sys.exit(main())
