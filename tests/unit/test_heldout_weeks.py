"""tests/heldout/weeks is what its card says. Plain json, without the code that is measured on it."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

WEEKS = Path(__file__).parents[1] / "heldout" / "weeks"


def lines(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (WEEKS / f"{name}.jsonl").read_text("utf-8").splitlines()]


@pytest.fixture(scope="module")
def said() -> dict[str, str]:
    """turn id → what a user said."""
    turns = [turn for dialogue in lines("dialogues") for turn in dialogue["turns"]]
    return {turn["turn_id"]: turn["text"] for turn in turns if turn["role"] == "user"}


def test_there_is_as_much_of_it(said: dict[str, str]) -> None:
    relations = Counter(one["relation"] for one in lines("decisions"))
    users = {one["user_id"] for one in lines("dialogues")}
    assert (len(users), len(lines("dialogues")), len(said), len(lines("facts"))) == (32, 141, 692, 391)
    assert relations == {"unrelated": 239, "update": 86, "retraction": 39, "duplicate": 38, "conflict": 28}
    assert len(set(said.values())) == len(said)


def test_a_fact_stands_where_it_is_said_to_and_a_decision_concerns_what_holds(said: dict[str, str]) -> None:
    facts = {one["fact_id"]: one for one in lines("facts")}
    for one in facts.values():
        start, end = one["span"]
        assert said[one["turn_id"]][start:end] == one["content"] != ""
    holding: set[str] = set()
    for one in lines("decisions"):
        target, fact = one["target_fact_id"], one["fact_id"]
        if target is not None:
            assert target in holding, one
            assert facts[target]["user_id"] == one["user_id"]
        if one["operation"] in ("UPDATE", "DELETE"):
            holding.remove(target)
        if one["operation"] != "NONE" and fact is not None:
            holding.add(fact)
    assert {one["fact_id"] for one in lines("decisions")} - {None} == set(facts)
