"""What a whole history leaves active: the extractor and the decisions one after another, held against the labels.

    report = evaluate_state(create_extractor("encoder"), create_comparator("encoder"), load_gold(split="even"))
    report.stale, report.doubled, report.lost

Here a wrong decision spoils the next, as it does in use. A memory is tied to the gold fact that its turn says (matched
as in memory_quality), so an old and a new value are never confused for their words being alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from smartmem.errors import Unmeasurable
from smartmem.evaluation.datasets.gold import Gold, GoldDecision
from smartmem.evaluation.memory_quality import THRESHOLD, Extracts, likeliest, match, message_of, row_of
from smartmem.memory.compare import Comparator
from smartmem.memory.decide import Found, Op, Planner
from smartmem.memory.facts import Fact
from smartmem.memory.normalise import normalise_facts


@dataclass(frozen=True, slots=True, kw_only=True)
class StateReport:
    """Contents of memories and how many they were counted among.

    `stale`: active although the labels have replaced or removed what they say. `doubled`: active beside another memory
    that says the same by the labels. `lost`: extracted, valid by the labels, and not active any more. `unknown`: active
    and tied to no gold fact (what the extractor invented). `removed`, `repeated`, `valid` are what there was to get
    wrong: gold facts replaced or removed after they were extracted, repeats extracted, valid ones extracted.
    """

    stale: tuple[str, ...]
    doubled: tuple[str, ...]
    lost: tuple[str, ...]
    unknown: tuple[str, ...]
    active: int
    removed: int
    repeated: int
    valid: int


class _Active:
    """The active rows of one user."""

    def __init__(self, limit: int) -> None:
        self.rows: dict[str, dict[str, Any]] = {}
        self._limit = limit

    def find(self, fact: Fact, user_id: int, namespace: str) -> Found:
        return Found(rows=likeliest(fact, list(self.rows.values()))[: self._limit])


def evaluate_state(
    extractor: Extracts, comparator: Comparator, gold: Gold, *, limit: int = 5, min_confidence: float = 0.5
) -> StateReport:
    """Run each user's messages in order and look at what stands at the end. Raises `Unmeasurable` without labels."""
    if not gold.decisions:
        raise Unmeasurable("there is no gold decision; check the split")
    ends: list[StateReport] = []
    facts_of = gold.facts_of()
    for user in sorted({turn.user_id for turn in gold.turns}):
        known = _Active(limit)
        planner = Planner(comparator, known, limit=limit)
        said: dict[str, str] = {}  # gold fact → its memory's content
        tied: dict[str, str] = {}  # memory → gold fact
        for turn in (turn for turn in gold.turns if turn.user_id == user):
            try:
                found = extractor.extract(message_of(turn))
                said_here = (found.facts, found.unsure)
            except Exception:  # noqa: BLE001 - nothing comes of a failed message; evaluate_extraction lists it
                said_here = ((), ())
            made = [
                fact
                for candidates in said_here
                for fact in normalise_facts(candidates, turn.occurred_at, min_confidence=min_confidence).facts
            ]
            decisions = [one for one in planner.plan(made, user, "main") if one.counts]
            asserted = [one.fact for one in decisions if one.fact.action == "assert"]
            wanted = facts_of[turn.id]
            pairs = match([f.content for f in wanted], [f.content for f in asserted], THRESHOLD)
            meant = {asserted[j].content_hash: wanted[i].id for i, j, _ in pairs}
            for index, decision in enumerate(decisions):
                if decision.operation in (Op.UPDATE, Op.DELETE) and decision.target is not None:
                    known.rows.pop(str(decision.target["id"]), None)
                gold_id = meant.get(decision.fact.content_hash)
                if gold_id is not None:
                    said[gold_id] = decision.fact.content
                if decision.fact.action == "assert" and decision.operation is not Op.NONE:
                    row = row_of(f"{turn.id}:{index}", decision.fact)
                    known.rows[row["id"]] = row
                    if gold_id is not None:
                        tied[row["id"]] = gold_id
        ends.append(_judge([d for d in gold.decisions if d.user_id == user], known.rows, tied, said))
    return _sum(ends)


def _sum(ends: Sequence[StateReport]) -> StateReport:
    return StateReport(
        stale=tuple(said for end in ends for said in end.stale),
        doubled=tuple(said for end in ends for said in end.doubled),
        lost=tuple(said for end in ends for said in end.lost),
        unknown=tuple(said for end in ends for said in end.unknown),
        active=sum(end.active for end in ends),
        removed=sum(end.removed for end in ends),
        repeated=sum(end.repeated for end in ends),
        valid=sum(end.valid for end in ends),
    )


def _judge(
    decisions: Sequence[GoldDecision],
    active: Mapping[str, Mapping[str, Any]],
    tied: Mapping[str, str],
    said: Mapping[str, str],
) -> StateReport:
    same: dict[str, str] = {}  # gold fact → the first that said it
    valid: set[str] = set()
    for decision in decisions:
        target = decision.target_fact_id
        if decision.relation == "duplicate" and decision.fact_id and target:
            same[decision.fact_id] = same.get(target, target)
            continue
        if target:
            valid.discard(target)
        if decision.fact_id:
            valid.add(decision.fact_id)
    stale, doubled, unknown = [], [], []
    seen: set[str] = set()
    for memory, row in active.items():
        meant = tied.get(memory)
        if meant is None:
            unknown.append(row["content"])
            continue
        first = same.get(meant, meant)
        if first in seen:
            doubled.append(row["content"])
        elif first not in valid:
            stale.append(row["content"])
        seen.add(first)
    extracted = {same.get(meant, meant) for meant in said}
    return StateReport(
        stale=tuple(stale),
        doubled=tuple(doubled),
        lost=tuple(said[one] for one in sorted(valid & extracted - seen) if one in said),
        unknown=tuple(unknown),
        active=len(active),
        removed=len(extracted - valid),
        repeated=sum(1 for one in said if one in same),
        valid=len(extracted & valid),
    )
