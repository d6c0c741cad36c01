"""From facts to decisions: find what a fact may concern, compare, aggregate. Nothing is written here.

    same hash active                → NONE
    any duplicate                   → NONE
    else best-scoring update        → UPDATE  the old one is superseded and keeps its interval
    else best-scoring conflict      → DELETE  the old one ends, the new one is added
    else                            → ADD
    a retraction that fits a memory → DELETE  nothing is added

A fact older than the memory it would change never overwrites it: it becomes history before it. One that its extractor
is unsure of is not added for itself, but may update, deny or take back a memory: what is known says that it is meant.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Literal, Protocol

from smartmem.memory.compare import Comparator, Comparison, Relation
from smartmem.memory.facts import Fact


class Op(StrEnum):
    """What is to be done with a fact."""

    ADD = "ADD"
    UPDATE = "UPDATE"
    DELETE = "DELETE"
    NONE = "NONE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One comparison as it is kept: the memory's real id, the verdict, or the reason why there is none."""

    memory_id: str
    relation: str
    score: float
    reason: str

    def to_json(self) -> dict[str, Any]:
        return {
            "memory_id": self.memory_id,
            "relation": self.relation,
            "score": round(self.score, 4),
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What to do with one fact. `target` is the row that it concerns, as it was read (its version guards the write).

    `history`: the fact is older than the target and is to be kept as its past. `dropped`: `fallback = drop` took it.
    """

    fact: Fact
    operation: Op
    relation: Relation
    target: Mapping[str, Any] | None = None
    comparisons: tuple[Compared, ...] = ()
    reason: str = ""
    fallback_reason: str | None = None
    history: bool = False

    @property
    def counts(self) -> bool:
        """False for a fact that its extractor is unsure of and that changes no memory: as if it had not been said."""
        return not self.fact.unsure or self.operation is not Op.NONE


class Candidates(Protocol):
    """Finds the active memories that a fact may concern, most likely first."""

    def find(self, fact: Fact, user_id: int, namespace: str) -> Found: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Rows of memory_items, and why the vector store was not asked, if it was not."""

    rows: Sequence[Mapping[str, Any]]
    fallback_reason: str | None = None


@dataclass(slots=True)
class Planner:
    """Decides the facts of one message after another against what is known, including each other."""

    comparator: Comparator
    candidates: Candidates
    limit: int = 5
    fallback: Literal["legacy_add", "drop"] = "legacy_add"

    def plan(self, facts: Sequence[Fact], user_id: int, namespace: str) -> tuple[Decision, ...]:
        """One decision a fact, in order, the unsure ones last. What one fact removes, the next one no longer sees.

        Of two facts of one message in one slot the later stands: people correct themselves while they write. A sure one
        stands before any unsure one, and what it concerns is out of their reach.
        """
        gone: set[str] = set()
        settled: set[str] = set()
        made: list[Decision] = []
        last: dict[str, int] = {}
        for index, fact in enumerate(facts):
            if fact.slot and fact.action == "assert" and not (fact.unsure and _sure(facts, last.get(fact.slot))):
                last[fact.slot] = index
        for index, fact in enumerate(facts):
            if fact.slot and fact.action == "assert" and last[fact.slot] != index:
                made.append(_said_better(fact))
                continue
            found = self.candidates.find(fact, user_id, namespace)
            barred = gone | settled if fact.unsure else gone
            rows = [row for row in found.rows if row["id"] not in barred]
            decision = decide(fact, rows, self.comparator, limit=self.limit, fallback=self.fallback)
            if found.fallback_reason and not decision.fallback_reason:
                decision = replace(decision, fallback_reason=found.fallback_reason)
            if decision.target is not None:
                settled.add(decision.target["id"])
                if decision.operation in (Op.UPDATE, Op.DELETE):
                    gone.add(decision.target["id"])
            made.append(decision)
        return tuple(made)


def decide(
    fact: Fact,
    rows: Sequence[Mapping[str, Any]],
    comparator: Comparator,
    *,
    limit: int = 5,
    fallback: Literal["legacy_add", "drop"] = "legacy_add",
) -> Decision:
    """Decide one fact against candidate rows (active memories of its user, most likely first)."""
    if fact.action == "assert":
        same = next((row for row in rows if row["content_hash"] == fact.content_hash), None)
        if same is not None:
            return _doubted(
                Decision(
                    fact=fact,
                    operation=Op.NONE,
                    relation=Relation.DUPLICATE,
                    target=same,
                    reason="the same words are active",
                )
            )
    rows = rows[:limit]
    verdicts, failures = _compare(fact, rows, comparator)
    kept = tuple(
        Compared(memory_id=row["id"], relation=v.relation.value, score=v.score, reason=v.reason)
        for row, v in zip(rows, verdicts, strict=True)
    )
    decision = _doubted(replace(aggregate(fact, rows, verdicts), comparisons=kept))
    if not failures:
        return decision
    why = f"{len(failures)} of {len(rows)} comparisons failed: {failures[0]}"
    if decision.operation is Op.ADD and fallback == "drop":
        return replace(decision, operation=Op.NONE, reason="dropped: it could not be compared", fallback_reason=why)
    return replace(decision, fallback_reason=why)


def _sure(facts: Sequence[Fact], index: int | None) -> bool:
    return index is not None and not facts[index].unsure


def _said_better(fact: Fact) -> Decision:
    reason = "said again in the same message"
    return _doubted(Decision(fact=fact, operation=Op.NONE, relation=Relation.DUPLICATE, reason=reason))


def _doubted(decision: Decision) -> Decision:
    """The decision, if its fact is sure or changes a memory; else that nothing is done, with the reason."""
    if not decision.fact.unsure or decision.operation in (Op.UPDATE, Op.DELETE):
        return decision
    return replace(decision, operation=Op.NONE, history=False, reason=f"unsure: {decision.reason}")


def aggregate(fact: Fact, rows: Sequence[Mapping[str, Any]], verdicts: Sequence[Comparison]) -> Decision:
    """Many pairwise verdicts make one decision."""
    if fact.action == "retract":
        return _retract(fact, _best(rows, verdicts, Relation.RETRACTION))
    for relation, operation in (
        (Relation.DUPLICATE, Op.NONE),
        (Relation.UPDATE, Op.UPDATE),
        (Relation.CONFLICT, Op.DELETE),
    ):
        best = _best(rows, verdicts, relation)
        if best is None:
            continue
        row, verdict = best
        older = operation is not Op.NONE and fact.valid_from < row["valid_from"]
        return Decision(
            fact=fact,
            operation=Op.NONE if older else operation,
            relation=relation,
            target=row,
            reason="older than the memory it would change" if older else verdict.reason,
            history=older,
        )
    return Decision(fact=fact, operation=Op.ADD, relation=Relation.UNRELATED, reason="nothing like it is active")


def _retract(fact: Fact, best: tuple[Mapping[str, Any], Comparison] | None) -> Decision:
    if best is None:
        return Decision(
            fact=fact, operation=Op.NONE, relation=Relation.UNRELATED, reason="nothing active is meant by it"
        )
    row, verdict = best
    older = fact.valid_from < row["valid_from"]
    return Decision(
        fact=fact,
        operation=Op.NONE if older else Op.DELETE,
        relation=Relation.RETRACTION,
        target=row,
        reason="older than the memory it would remove" if older else verdict.reason,
    )


def _compare(
    fact: Fact, rows: Sequence[Mapping[str, Any]], comparator: Comparator
) -> tuple[list[Comparison], list[str]]:
    if not rows:
        return [], []
    answers = comparator.compare(fact, rows)
    verdicts: list[Comparison] = []
    failures: list[str] = []
    for answer in answers:
        if isinstance(answer, Exception):
            failures.append(f"{type(answer).__name__}: {answer}")
            verdicts.append(Comparison(relation=Relation.UNRELATED, score=0.0, reason=f"failed: {failures[-1]}"[:200]))
        else:
            verdicts.append(answer)
    return verdicts, failures


def _best(
    rows: Sequence[Mapping[str, Any]], verdicts: Sequence[Comparison], relation: Relation
) -> tuple[Mapping[str, Any], Comparison] | None:
    pairs = [(row, v) for row, v in zip(rows, verdicts, strict=True) if v.relation is relation]
    return max(pairs, key=lambda pair: (pair[1].score, pair[0]["id"]), default=None)
