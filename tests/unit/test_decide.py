"""Facts and memories by twos, then the aggregation of SPEC §6."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from smartmem.errors import TransientModelError
from smartmem.memory.comparators import Comparison, Relation, create_comparator
from smartmem.memory.decide import Found, Op, Planner, aggregate, decide
from smartmem.memory.extract.slots import slot_of
from smartmem.memory.facts import Fact
from tests.support.memory import fact, row
from tests.support.pipeline import START

LATER = START + dt.timedelta(days=3)


def slotted(content: str, kind: str, **changes: Any) -> Fact:
    return fact(content, kind, slot=slot_of(kind, content, None), valid_from=LATER, **changes)


def remembered(content: str, kind: str) -> dict[str, Any]:
    return row(content, kind, slot=slot_of(kind, content, None))


PAIRS = [
    ("fact", "I live in Leeds.", "I've moved to Bristol.", "update"),
    ("fact", "I work as a nurse.", "I work as a teacher now.", "update"),
    ("fact", "我住在杭州。", "我搬到苏州了。", "update"),
    ("fact", "My cat Biscuit is two.", "Actually my cat Biscuit is three, not two.", "update"),
    ("constraint", "I've been vegetarian for six years.", "I'm still vegetarian.", "duplicate"),
    ("constraint", "I'm vegetarian, no meat.", "I'm not vegetarian any more, I eat meat again.", "conflict"),
    ("constraint", "Always answer me in bullet points.", "Please never use bullet points when you answer.", "conflict"),
    ("constraint", "我对花生过敏。", "我花生过敏，一点都不能碰。", "duplicate"),
    ("constraint", "I'm allergic to peanuts.", "I'm allergic to penicillin.", "unrelated"),
    ("preference", "I love jazz.", "I can't stand jazz.", "conflict"),
    ("preference", "我喝茶只喝普洱，不喝绿茶，绿茶伤胃。", "我喝茶只喝普洱，不喝绿茶。", "duplicate"),
    ("preference", "I don't like coffee, it keeps me up.", "I like coffee.", "conflict"),
    ("preference", "我不吃香菜。", "我现在爱吃香菜了。", "conflict"),
    ("preference", "I like green tea.", "I like long walks.", "unrelated"),
    ("preference", "我喜欢喝咖啡。", "我喜欢爬山。", "unrelated"),
    ("todo_hint", "The dentist is on 3 May at ten.", "The dentist is on 5 May at ten.", "update"),
    ("todo_hint", "The dentist is on the third of May.", "The dentist is on the twenty-third of May.", "update"),
    ("fact", "I am sixty-nine.", "Now I am seventy.", "update"),
    ("fact", "My train leaves at nineteen past.", "My train leaves at nineteen past.", "duplicate"),
    ("todo_hint", "我下周五要交报告。", "报告改到下周一交。", "update"),
    ("fact", "I have a dog called Rufus.", "I have a cat called Miso.", "unrelated"),
]


@pytest.mark.parametrize(("kind", "old", "new", "relation"), PAIRS, ids=[p[2] for p in PAIRS])
def test_rules_tell_how_two_statements_stand(kind: str, old: str, new: str, relation: str) -> None:
    (verdict,) = create_comparator("rules").compare(slotted(new, kind), [remembered(old, kind)])
    assert isinstance(verdict, Comparison)
    assert verdict.relation == relation


RETRACTIONS = [
    ("Please forget my passport number.", ["My passport number is PX123456.", "I live in Leeds."], 0),
    ("Statistics is passed, so throw out the exam reminder.", ["I live here.", "The statistics exam is on 9 May."], 1),
    ("我不再打羽毛球了", ["我每周三打羽毛球。", "我住在苏州。"], 0),
    ("驾照早就换好了，那条提醒删掉吧", ["我住在苏州。", "我下周二要去车管所换驾照。"], 1),
    ("Forget what I said about golf.", ["I live in Leeds.", "I like tea."], None),
]  # fmt: skip


@pytest.mark.parametrize(("said", "memories", "meant"), RETRACTIONS, ids=[r[0] for r in RETRACTIONS])
def test_a_retraction_finds_what_it_means(said: str, memories: list[str], meant: int | None) -> None:
    rows = [remembered(text, "fact") for text in memories]
    asked = fact(said, action="retract", slot=slot_of("retraction", said, None), valid_from=LATER, is_explicit=True)
    decision = decide(asked, rows, create_comparator("rules"))
    if meant is None:
        assert (decision.operation, decision.target) == (Op.NONE, None)
    else:
        assert decision.operation is Op.DELETE
        assert decision.target is rows[meant]


def verdicts(*relations: tuple[str, float]) -> list[Comparison]:
    return [Comparison(relation=Relation(word), score=score) for word, score in relations]


@pytest.mark.parametrize(
    ("relations", "operation", "target"),
    [
        ([("unrelated", 0.9), ("unrelated", 0.1)], Op.ADD, None),
        ([("update", 0.9), ("duplicate", 0.1)], Op.NONE, 1),
        ([("update", 0.4), ("update", 0.8)], Op.UPDATE, 1),
        ([("conflict", 0.9), ("update", 0.2)], Op.UPDATE, 1),
        ([("conflict", 0.3), ("conflict", 0.6)], Op.DELETE, 1),
        ([("retraction", 0.9), ("unrelated", 0.0)], Op.ADD, None),
    ],
)
def test_aggregation(relations: list[tuple[str, float]], operation: Op, target: int | None) -> None:
    rows = [row("a"), row("b")]
    decision = aggregate(fact("c", valid_from=LATER), rows, verdicts(*relations))
    assert decision.operation is operation
    assert decision.target is (None if target is None else rows[target])


def test_an_older_fact_never_overwrites() -> None:
    rows = [row("b", valid_from=LATER)]
    decision = aggregate(fact("a"), rows, verdicts(("update", 0.9)))
    assert (decision.operation, decision.history) == (Op.NONE, True)


@pytest.mark.parametrize(
    ("relations", "operation"),
    [
        ([], Op.NONE),
        ([("unrelated", 0.9)], Op.NONE),
        ([("duplicate", 0.9)], Op.NONE),
        ([("update", 0.9)], Op.UPDATE),
        ([("conflict", 0.9)], Op.DELETE),
    ],
)
def test_what_its_extractor_is_unsure_of_changes_a_memory_and_makes_none(
    relations: list[tuple[str, float]], operation: Op
) -> None:
    decision = decide(fact("b", valid_from=LATER, unsure=True), [row("a")][: len(relations)], Says(*relations))
    assert (decision.operation, decision.counts) == (operation, operation is not Op.NONE)
    assert decision.reason.startswith("unsure: ") is (operation is Op.NONE)


def test_what_its_extractor_is_unsure_of_becomes_nobodys_past() -> None:
    decision = decide(fact("b", unsure=True), [row("a", valid_from=LATER)], Says(("update", 0.9)))
    assert (decision.operation, decision.history) == (Op.NONE, False)


class Known:
    """The same rows for every fact."""

    def __init__(self, *rows: Mapping[str, Any]) -> None:
        self.rows = rows

    def find(self, fact: Fact, user_id: int, namespace: str) -> Found:
        return Found(rows=self.rows)


def test_an_unsure_fact_never_takes_the_place_of_a_sure_one_of_its_message() -> None:
    sure, unsure = fact("I live in Leeds", slot="city"), fact("I live in Bristol", slot="city", unsure=True)
    made = Planner(create_comparator("rules"), Known()).plan([sure, unsure], 1, "main")
    assert [(one.operation, one.counts) for one in made] == [(Op.ADD, True), (Op.NONE, False)]
    assert made[1].reason == "unsure: said again in the same message"


def test_of_two_unsure_facts_in_one_slot_the_later_stands() -> None:
    york, bristol = (slotted(f"I've moved to {city}.", "fact", unsure=True) for city in ("York", "Bristol"))
    made = Planner(create_comparator("rules"), Known(remembered("I live in Leeds.", "fact"))).plan(
        [york, bristol], 1, "main"
    )
    assert [one.operation for one in made] == [Op.NONE, Op.UPDATE]


def test_what_a_sure_fact_of_the_message_repeats_no_unsure_one_takes_back() -> None:
    leeds = remembered("I live in Leeds.", "fact")
    sure = slotted("I live in Leeds.", "fact")
    unsure = fact("I no longer live in Leeds.", action="retract", valid_from=LATER, unsure=True)
    planner = Planner(create_comparator("rules"), Known(leeds))
    assert [one.operation for one in planner.plan([unsure], 1, "main")] == [Op.DELETE]
    assert [one.operation for one in planner.plan([sure, unsure], 1, "main")] == [Op.NONE, Op.NONE]


def test_the_same_words_need_no_comparison() -> None:
    class Never:
        def compare(self, fact: Fact, candidates: Sequence[Mapping[str, Any]]) -> Sequence[Comparison | Exception]:
            raise AssertionError("not to be asked")

    decision = decide(fact("I like tea"), [row("I LIKE tea")], Never())
    assert (decision.operation, decision.relation) == (Op.NONE, Relation.DUPLICATE)


class Says:
    """Says of each memory what it is told to say."""

    def __init__(self, *relations: tuple[str, float]) -> None:
        self.relations = relations

    def compare(self, fact: Fact, candidates: Sequence[Mapping[str, Any]]) -> Sequence[Comparison | Exception]:
        return verdicts(*self.relations[: len(candidates)])


class Half:
    """Fails on the first of two candidates."""

    def __init__(self, second: str) -> None:
        self.second = second

    def compare(self, fact: Fact, candidates: Sequence[Mapping[str, Any]]) -> Sequence[Comparison | Exception]:
        return [TransientModelError("too slow"), *verdicts((self.second, 0.9))]


def test_one_failed_comparison_counts_as_unrelated_and_is_recorded() -> None:
    decision = decide(fact("c", valid_from=LATER), [row("a"), row("b")], Half("update"))
    assert decision.operation is Op.UPDATE
    assert "too slow" in (decision.fallback_reason or "")
    assert decision.comparisons[0].reason.startswith("failed: TransientModelError")


@pytest.mark.parametrize(("fallback", "operation"), [("legacy_add", Op.ADD), ("drop", Op.NONE)])
def test_the_fallback_decides_what_an_uncertain_add_becomes(fallback: Any, operation: Op) -> None:
    decision = decide(fact("c", valid_from=LATER), [row("a"), row("b")], Half("unrelated"), fallback=fallback)
    assert decision.operation is operation
    assert decision.fallback_reason
