"""Comparators against labelled histories: what each statement is taken to do to the memories before it.

report = evaluate_histories(create_comparator("rules"), list(read_histories(Path("mine.txt"))))
report.right, report.by["update"], report.wrong
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from smartmem.errors import Unmeasurable
from smartmem.evaluation.memory_quality import likeliest, row_of
from smartmem.memory.compare import Comparator, Relation
from smartmem.memory.decide import Op, decide
from smartmem.memory.histories import History, Statement

_OPERATIONS = {
    Relation.DUPLICATE: Op.NONE,
    Relation.UPDATE: Op.UPDATE,
    Relation.CONFLICT: Op.DELETE,
    Relation.RETRACTION: Op.DELETE,
    Relation.UNRELATED: Op.ADD,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """How many of how many."""

    right: int
    of: int

    @property
    def value(self) -> float:
        return self.right / self.of


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoriesReport:
    """`decisions`: statements with the right operation on the right memory. `ended`: those that end a memory (update,
    denial, retraction) of which the right one ends, whatever it is called: what stays active in error is what the
    others leave. `kept`: those that end none, of which none ends. `by`: decisions by relation. `wrong`: the statement,
    the operation and the memory's words that were chosen."""

    decisions: Share
    ended: Share
    kept: Share
    by: dict[str, Share]
    wrong: tuple[tuple[Statement, str, str | None], ...]


def evaluate_histories(comparator: Comparator, histories: Sequence[History], *, limit: int = 10) -> HistoriesReport:
    """Each statement on its own against its person's memories. Raises `Unmeasurable` without a statement."""
    counts: dict[str, list[bool]] = {}
    ended: list[bool] = []
    kept: list[bool] = []
    wrong: list[tuple[Statement, str, str | None]] = []
    for history in histories:
        rows = [row_of(str(number), memory.fact) for number, memory in history.memories.items()]
        for said in history.statements:
            decision = decide(said.fact, likeliest(said.fact, rows), comparator, limit=limit)
            changed = decision.target if decision.operation in (Op.UPDATE, Op.DELETE) else None
            wanted = str(said.target) if said.relation not in (Relation.DUPLICATE, Relation.UNRELATED) else None
            hit = (changed["id"] if changed else None) == wanted
            (kept if wanted is None else ended).append(hit)
            right = hit and decision.operation is _OPERATIONS[said.relation]
            counts.setdefault(str(said.relation), []).append(right)
            if not right:
                target = decision.target["content"] if decision.target else None
                wrong.append((said, str(decision.operation), target))
    if not counts:
        raise Unmeasurable("there is no statement in these histories")
    every = [one for ones in counts.values() for one in ones]
    return HistoriesReport(
        decisions=_share(every),
        ended=_share(ended),
        kept=_share(kept),
        by={name: _share(ones) for name, ones in sorted(counts.items())},
        wrong=tuple(wrong),
    )


def _share(ones: Sequence[bool]) -> Share:
    return Share(right=sum(ones), of=len(ones))
