"""The rules on the list that they were written with: no later change may lose what this one found."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from pathlib import Path

import pytest

from smartmem.evaluation.memory_quality import match
from smartmem.memory.extract import create_extractor
from smartmem.memory.extract.labelled import read_labelled
from smartmem.memory.facts import Message
from smartmem.memory.normalise import normalise_facts

LISTS = Path(__file__).parents[1] / "develop"
NOW = dt.datetime(2026, 2, 3, 10, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("language", "precision", "recall", "noise"), [("en", 0.95, 0.88, 0.01), ("zh", 0.95, 0.85, 0.01)]
)
def test_the_rules_keep_what_they_were_written_for(
    language: str, precision: float, recall: float, noise: float
) -> None:
    extractor = create_extractor("rules")
    count: Counter[str] = Counter()
    for one in read_labelled(LISTS / f"{language}.txt"):
        gold = one.facts
        message = Message(user_id=1, source_message_id=one.place, source_text=one.text, occurred_at=NOW)
        asserted = [fact for fact in extractor.extract(message).facts if fact.action == "assert"]
        made = [fact.content for fact in normalise_facts(asserted, NOW, min_confidence=0.5).facts]
        count.update(gold=len(gold), made=len(made), right=len(match(gold, made)))
        count.update(quiet=not gold, noisy=bool(made and not gold))
    figures = {
        "precision": count["right"] / count["made"],
        "recall": count["right"] / count["gold"],
        "noise": count["noisy"] / count["quiet"],
    }
    print(language, figures, dict(count))
    assert figures["precision"] >= precision, figures
    assert figures["recall"] >= recall, figures
    assert figures["noise"] <= noise, figures
