"""What the `rules` extractor and comparator reach on smartmem-tiny and on a list written blind: tuned on odd users,
reported on even ones.

The aims are precision .90, recall .75 and decisions .90 (issue E). The floors of the even half stand a little under
what was measured there, as a guard against getting worse; `python -m tests.integration.test_memory_quality` prints
the figures of both halves. Nobody has tuned on the even half, so its figures are the honest ones.
"""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from smartmem.clock import ManualClock
from smartmem.db.engine import Database
from smartmem.evaluation.datasets.gold import Gold, Split, load_gold
from smartmem.evaluation.datasets.labelled import labelled_gold, read_lists
from smartmem.evaluation.memory_quality import (
    DecisionReport,
    ExtractionReport,
    Once,
    comparator_decider,
    evaluate_decisions,
    evaluate_extraction,
)
from smartmem.evaluation.memory_state import evaluate_state
from smartmem.memory import govern
from smartmem.memory.comparators import create_comparator
from smartmem.memory.extract import create_extractor
from smartmem.memory.extract.signals import speaks_of_self
from tests.support.memory import Chain
from tests.support.pipeline import START

MIN_CONFIDENCE = 0.5
HELDOUT = Path(__file__).parents[1] / "heldout"  # written blind by another hand; see its README


@dataclass(frozen=True, slots=True, kw_only=True)
class Floors:
    """(precision, recall) by language, decisions, and the most messages without facts that may give one."""

    facts: dict[str, tuple[float, float]]
    decisions: float
    noise: float


FLOORS = {
    ("tiny", "odd"): Floors(facts={"en": (0.91, 0.90), "zh": (0.93, 0.88)}, decisions=0.95, noise=0.02),
    ("tiny", "even"): Floors(facts={"en": (0.66, 0.61), "zh": (0.81, 0.76)}, decisions=0.86, noise=0.065),
    ("heldout", "odd"): Floors(facts={"en": (0.86, 0.78), "zh": (0.92, 0.75)}, decisions=0.89, noise=0.01),
    ("heldout", "even"): Floors(facts={"en": (0.74, 0.55), "zh": (0.81, 0.49)}, decisions=0.89, noise=0.04),
}


def gold_of(name: str, split: Split) -> Gold:
    return load_gold(HELDOUT if name == "heldout" else None, split=split)


# The tagger has seen none of the four halves; its option min_probability was chosen on the odd ones.
TAGGER = {
    ("tiny", "odd"): Floors(facts={"en": (0.80, 0.86), "zh": (0.87, 0.87)}, decisions=0, noise=0.055),
    ("tiny", "even"): Floors(facts={"en": (0.71, 0.72), "zh": (0.83, 0.72)}, decisions=0, noise=0.05),
    ("heldout", "odd"): Floors(facts={"en": (0.87, 0.57), "zh": (0.86, 0.81)}, decisions=0, noise=0.015),
    ("heldout", "even"): Floors(facts={"en": (0.81, 0.66), "zh": (0.78, 0.73)}, decisions=0, noise=0.04),
}


def extraction(gold: Gold, extractor: str = "rules") -> ExtractionReport:
    return evaluate_extraction(create_extractor(extractor), gold, min_confidence=MIN_CONFIDENCE)


def decisions(gold: Gold) -> DecisionReport:
    return evaluate_decisions(comparator_decider(create_comparator("rules")), gold)


@pytest.fixture(scope="module", params=FLOORS, ids="-".join)
def half(request: pytest.FixtureRequest) -> tuple[Floors, Gold]:
    return FLOORS[request.param], gold_of(*request.param)


def test_facts_are_found_and_little_else(half: tuple[Floors, Gold]) -> None:
    floors, gold = half
    report = extraction(gold)
    for language, (precision, recall) in floors.facts.items():
        reached = report.by["language"][language]
        assert reached["precision"] >= precision, f"{language}: {reached}"
        assert reached["recall"] >= recall, f"{language}: {reached}"
    assert report.typed >= 0.88
    assert report.noise <= floors.noise


@pytest.mark.parametrize("of", TAGGER, ids="-".join)
def test_the_tagger_finds_facts_and_little_else(of: tuple[str, Split]) -> None:
    report = extraction(gold_of(*of), "tagger")
    for language, (precision, recall) in TAGGER[of].facts.items():
        reached = report.by["language"][language]
        assert reached["precision"] >= precision, f"{language}: {reached}"
        assert reached["recall"] >= recall, f"{language}: {reached}"
    assert report.typed >= 0.9
    assert report.noise <= TAGGER[of].noise


# What each gave when it was trained: .894 / .827 and .938 / .873 (docs/extraction.md).
@pytest.mark.parametrize(
    ("name", "precision", "recall", "noise"), [("tagger", 0.88, 0.8, 0.06), ("encoder", 0.92, 0.85, 0.03)]
)
def test_it_holds_on_messages_that_nothing_was_trained_on(
    name: str, precision: float, recall: float, noise: float
) -> None:
    blocks = read_lists(sorted((HELDOUT / "messages").glob("*.txt")))
    report = evaluate_extraction(create_extractor(name), labelled_gold(blocks), min_confidence=MIN_CONFIDENCE)
    assert report.recall.count > 600
    assert report.precision.value >= precision
    assert report.recall.value >= recall
    assert report.noise <= noise


def test_it_holds_on_whole_histories_that_nothing_was_trained_on() -> None:
    """The default extractor and comparator on tests/heldout/weeks; the figures of the day are in docs/decisions.md."""
    gold, comparator = load_gold(HELDOUT / "weeks"), create_comparator("encoder")
    extractor = Once(create_extractor("encoder"))
    facts = evaluate_extraction(extractor, gold, min_confidence=MIN_CONFIDENCE)
    decided = evaluate_decisions(comparator_decider(comparator), gold)
    left = evaluate_state(extractor, comparator, gold, min_confidence=MIN_CONFIDENCE)
    for language in ("en", "zh"):
        assert facts.by["language"][language]["precision"] >= 0.9
        assert facts.by["language"][language]["recall"] >= 0.75
    assert facts.noise <= 0.03
    assert decided.accuracy.value >= 0.86
    assert left.removed > 100
    assert len(left.stale) <= 0.38 * left.removed
    assert len(left.doubled) <= 0.1 * left.repeated
    assert len(left.lost) <= 0.1 * left.valid


def test_decisions_are_right(half: tuple[Floors, Gold]) -> None:
    floors, gold = half
    assert decisions(gold).accuracy.value >= floors.decisions


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
    for name, split in FLOORS:
        gold = gold_of(name, split)
        found, decided = extraction(gold), decisions(gold)
        print(
            f"{name} {split}: precision {found.precision.value:.3f}, recall {found.recall.value:.3f}, "
            f"noise {found.noise:.3f}"
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
