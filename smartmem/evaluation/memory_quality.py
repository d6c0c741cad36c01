"""Extraction and decisions against the labels of smartmem-tiny.

report = evaluate_extraction(create_extractor("rules"), load_gold(split="even"))
report.f1, report.by["type"]["constraint"], report.missed

Facts are matched in two steps: the same normalised words first, then one to one by the best sum of similarities (token
F1, CJK by character) where a pair reaches the threshold. A message on which the extractor fails keeps its gold as
missed. Intervals resample users.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from smartmem.errors import Unmeasurable, needs
from smartmem.evaluation.cell import reason
from smartmem.evaluation.datasets.gold import Gold, GoldDecision, GoldFact, GoldTurn
from smartmem.evaluation.spans import tokens
from smartmem.evaluation.stats import RESAMPLES, SEED, Floats, bca
from smartmem.memory.compare import Comparator
from smartmem.memory.decide import decide
from smartmem.memory.extract.slots import slot_of
from smartmem.memory.facts import Candidate, Fact, Message
from smartmem.memory.normalise import content_hash, normalise_facts
from smartmem.memory.similarity import similarity
from smartmem.text import normalise

THRESHOLD = 0.5
_LIMIT = 5  # candidates compared: the default of memory.write.candidates


class Extracts(Protocol):
    """Anything with `.extract(message)` that returns an object with `.facts` (memory.facts.Candidate)."""

    def extract(self, message: Message) -> Any: ...


class Once:
    """Asks an extractor about each message once, however often it is measured: a model's answers cost money."""

    def __init__(self, extractor: Extracts) -> None:
        self._extractor = extractor
        self._known: dict[Message, Any] = {}

    def extract(self, message: Message) -> Any:
        if message not in self._known:
            try:
                self._known[message] = self._extractor.extract(message)
            except Exception as error:  # noqa: BLE001 - kept, and raised to whoever asks
                self._known[message] = error
        said = self._known[message]
        if isinstance(said, Exception):
            raise said
        return said


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A figure with its interval over users (None where there is one user) and what it was counted from."""

    value: float
    lo: float | None
    hi: float | None
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtractionReport:
    """Over all facts. `exact` is the share of right facts with the gold's very words, `typed` that of the right type;
    `noise` the share of messages without gold that gave a fact; `by` splits by "type" (right only with the right type)
    and "language"."""

    precision: Figure
    recall: Figure
    f1: Figure
    exact: float
    typed: float
    noise: float
    threshold: float
    by: Mapping[str, Mapping[str, Mapping[str, float]]]
    missed: tuple[GoldFact, ...]
    invented: tuple[tuple[str, str], ...]
    failed: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionReport:
    """`confusion[gold][made]` counts operations; `accuracy` asks for operation and target both."""

    accuracy: Figure
    operation_accuracy: float
    confusion: Mapping[str, Mapping[str, int]]
    by_relation: Mapping[str, Mapping[str, float]]
    wrong: tuple[tuple[GoldDecision, str, str | None], ...]
    failed: Mapping[str, str]


def token_f1(a: str, b: str) -> float:
    """Overlap of two texts in words (CJK: characters), 0..1; 1 for the same words in any order."""
    left, right = (Counter(normalise(text)[s:e] for s, e in tokens(normalise(text))) for text in (a, b))
    common = (left & right).total()
    return 2 * common / (left.total() + right.total()) if common else 0.0


def _words(text: str) -> str:
    """What exact equality is about: the words, not the mark at the end."""
    return normalise(text).rstrip(" .。!！?？")


def match(
    gold: Sequence[str],
    found: Sequence[str],
    threshold: float = THRESHOLD,
    alike: Callable[[str, str], float] = token_f1,
) -> list[tuple[int, int, float]]:
    """(gold, found, similarity) one to one: equal words first, then the pairs with the largest sum of similarities."""
    with needs("eval"):
        from scipy.optimize import linear_sum_assignment

    pairs: list[tuple[int, int, float]] = []
    rest = list(range(len(found)))
    for i, text in enumerate(gold):
        same = next((j for j in rest if _words(found[j]) == _words(text)), None)
        if same is not None:
            rest.remove(same)
            pairs.append((i, same, 1.0))
    done = {i for i, _, _ in pairs}
    open_gold = [i for i in range(len(gold)) if i not in done]
    if open_gold and rest:
        table = np.array([[alike(gold[i], found[j]) for j in rest] for i in open_gold])
        # A pair below the threshold is no match and must not take a partner from one above it.
        rows, columns = linear_sum_assignment(-np.where(table >= threshold, table, 0.0))
        good = [(r, c) for r, c in zip(rows, columns, strict=True) if table[r, c] >= threshold]
        pairs += [(open_gold[r], rest[c], float(table[r, c])) for r, c in good]
    return pairs


def message_of(turn: GoldTurn) -> Message:
    """The payload that the chain would hand to an extractor for this turn."""
    return Message(
        user_id=turn.user_id,
        source_text=turn.text,
        conversation_id=turn.conversation_id,
        source_message_id=turn.id,
        occurred_at=turn.occurred_at,
    )


def evaluate_extraction(
    extractor: Extracts,
    gold: Gold,
    *,
    threshold: float = THRESHOLD,
    alike: Callable[[str, str], float] = token_f1,
    min_confidence: float = 0.0,
) -> ExtractionReport:
    """Run the extractor on every message of the users and hold its facts against the labels."""
    if not gold.turns:
        raise Unmeasurable("there is no message to extract from; check the split")
    users = sorted({turn.user_id for turn in gold.turns})
    counts = np.zeros((len(users), 3))  # found and right, found, gold
    groups: dict[str, dict[str, Floats]] = {"type": {}, "language": {}}
    exact = typed = noisy = quiet = 0
    missed: list[GoldFact] = []
    invented: list[tuple[str, str]] = []
    failed: dict[str, str] = {}
    facts_of = gold.facts_of()
    for turn in gold.turns:
        wanted, made = facts_of[turn.id], []
        try:
            candidates = [c for c in extractor.extract(message_of(turn)).facts if c.action == "assert"]
            made = list(normalise_facts(candidates, turn.occurred_at, min_confidence=min_confidence).facts)
        except Exception as error:  # noqa: BLE001 - a failed message is a result: its facts are missed, and it is listed
            failed[turn.id] = reason(error)
        pairs = match([f.content for f in wanted], [f.content for f in made], threshold, alike)
        row = np.array([len(pairs), len(made), len(wanted)], dtype=float)
        counts[users.index(turn.user_id)] += row
        _add(groups["language"], turn.language, row)
        got = {j: i for i, j, _ in pairs}
        for i, fact in enumerate(wanted):
            right_type = any(i == a and fact.memory_type == made[b].memory_type for a, b, _ in pairs)
            _add(groups["type"], fact.memory_type, np.array([right_type, 0, 1], dtype=float))
        for found in made:
            _add(groups["type"], found.memory_type, np.array([0, 1, 0], dtype=float))
        exact += sum(1 for i, j, _ in pairs if _words(wanted[i].content) == _words(made[j].content))
        typed += sum(1 for i, j, _ in pairs if wanted[i].memory_type == made[j].memory_type)
        missed += [fact for i, fact in enumerate(wanted) if i not in got.values()]
        invented += [(turn.id, found.content) for j, found in enumerate(made) if j not in got]
        if not wanted:
            quiet += 1
            noisy += bool(made)
    right = max(counts[:, 0].sum(), 1)
    return ExtractionReport(
        precision=_figure(counts, lambda c: c[..., 0] / np.maximum(c[..., 1], 1), int(counts[:, 1].sum())),
        recall=_figure(counts, lambda c: c[..., 0] / np.maximum(c[..., 2], 1), int(counts[:, 2].sum())),
        f1=_figure(counts, _f1, int(counts[:, 2].sum())),
        exact=exact / right,
        typed=typed / right,
        noise=noisy / quiet if quiet else 0.0,
        threshold=threshold,
        by={kind: {name: _rates(row) for name, row in sorted(rows.items())} for kind, rows in groups.items()},
        missed=tuple(missed),
        invented=tuple(invented),
        failed=failed,
    )


def _add(rows: dict[str, Floats], name: str, row: Floats) -> None:
    rows[name] = rows.get(name, np.zeros(3)) + row


def _f1(counts: Floats) -> Floats:
    return np.asarray(2 * counts[..., 0] / np.maximum(counts[..., 1] + counts[..., 2], 1))


def _rates(row: Floats) -> dict[str, float]:
    right, found, gold = (float(value) for value in row)
    return {
        "precision": right / found if found else 0.0,
        "recall": right / gold if gold else 0.0,
        "f1": 2 * right / (found + gold) if found + gold else 0.0,
        "gold": gold,
        "found": found,
    }


def _figure(counts: Floats, statistic: Callable[[Floats], Floats], count: int) -> Figure:
    """A ratio of sums over users with its interval."""
    value, lo, hi = bca(lambda weights: statistic(weights @ counts), len(counts), resamples=RESAMPLES, seed=SEED)
    return Figure(value=value, lo=lo, hi=hi, count=count)


Decider = Callable[[Fact, Sequence[Mapping[str, Any]]], tuple[str, str | None]]


def comparator_decider(comparator: Comparator, limit: int = _LIMIT) -> Decider:
    """The chain's own decision with this comparator over the `limit` likeliest of the active memories."""

    def made(fact: Fact, rows: Sequence[Mapping[str, Any]]) -> tuple[str, str | None]:
        decision = decide(fact, likeliest(fact, rows), comparator, limit=limit)
        return str(decision.operation), decision.target["id"] if decision.target else None

    return made


def likeliest(fact: Fact, rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Rows in the order in which the chain asks about them: the same words, the same slot, the most alike."""

    def likeness(row: Mapping[str, Any]) -> tuple[bool, bool, float, str]:
        same_slot = bool(fact.slot) and fact.slot == row["slot"]
        alike = similarity(fact.content, row["content"])
        return row["content_hash"] != fact.content_hash, not same_slot, -alike, str(row["id"])

    return sorted(rows, key=likeness)


def row_of(name: str, fact: Fact) -> dict[str, Any]:
    """What a comparator reads of a memory."""
    return {
        "id": name,
        "content": fact.content,
        "content_hash": content_hash(fact.memory_type, fact.content),
        "memory_type": fact.memory_type,
        "title": fact.title,
        "slot": fact.slot,
        "valid_from": fact.valid_from,
        "language": fact.language,
    }


def evaluate_decisions(decider: Decider, gold: Gold) -> DecisionReport:
    """Each gold decision on its own: the memories are those that the labels have active, the fact is the gold one.

    So one wrong decision does not spoil the next (what whole runs add up to is another question). A request to take
    something back reaches the decider as the message's words with `action = "retract"`.
    """
    if not gold.decisions:
        raise Unmeasurable("there is no gold decision; check the split")
    facts = {fact.id: fact for fact in gold.facts}
    turns = {turn.id: turn for turn in gold.turns}
    users = sorted({decision.user_id for decision in gold.decisions})
    counts = np.zeros((len(users), 2))
    confusion: dict[str, Counter[str]] = {}
    relations: dict[str, list[bool]] = {}
    wrong: list[tuple[GoldDecision, str, str | None]] = []
    failed: dict[str, str] = {}
    operations_right = 0
    active: dict[int, dict[str, dict[str, Any]]] = {user: {} for user in users}
    for decision in gold.decisions:
        memories = active[decision.user_id]
        asked = _asked(decision, facts, turns)
        try:
            operation, target = decider(asked, list(memories.values()))
        except Exception as error:  # noqa: BLE001 - a failed decision is a wrong one, and it is listed
            operation, target = "FAILED", None
            failed[decision.id] = reason(error)
        same = operation == decision.operation
        # Only what is changed has to be the right one; of two repeats either may be named.
        right = same and (operation in ("ADD", "NONE") or target == decision.target_fact_id)
        operations_right += same
        counts[users.index(decision.user_id)] += (right, 1)
        confusion.setdefault(decision.operation, Counter())[operation] += 1
        relations.setdefault(decision.relation, []).append(right)
        if not right:
            wrong.append((decision, operation, target))
        _apply(memories, decision, asked)
    value, lo, hi = bca(
        lambda weights: np.asarray((weights @ counts)[:, 0] / np.maximum((weights @ counts)[:, 1], 1)),
        len(counts),
        resamples=RESAMPLES,
        seed=SEED,
    )
    return DecisionReport(
        accuracy=Figure(value=value, lo=lo, hi=hi, count=len(gold.decisions)),
        operation_accuracy=operations_right / len(gold.decisions),
        confusion={name: dict(row) for name, row in sorted(confusion.items())},
        by_relation={
            name: {"accuracy": float(np.mean(row)), "decisions": float(len(row))}
            for name, row in sorted(relations.items())
        },
        wrong=tuple(wrong),
        failed=failed,
    )


def _asked(decision: GoldDecision, facts: Mapping[str, GoldFact], turns: Mapping[str, GoldTurn]) -> Fact:
    turn = turns[decision.turn_id]
    gold = facts.get(decision.fact_id or "")
    if gold is None:
        candidate = Candidate(
            memory_type="fact", content=turn.text, slot=slot_of("retraction", turn.text, None), action="retract",
            is_explicit=True,
        )  # fmt: skip
    else:
        # The chain's own slot, not the label's: to know the slot would be half of the decision.
        candidate = Candidate(
            memory_type=gold.memory_type, content=gold.content, slot=slot_of(gold.memory_type, gold.content, None)
        )
    return normalise_facts([candidate], turn.occurred_at).facts[0]


def _apply(memories: dict[str, dict[str, Any]], decision: GoldDecision, asked: Fact) -> None:
    if decision.operation in ("UPDATE", "DELETE") and decision.target_fact_id:
        memories.pop(decision.target_fact_id, None)
    if decision.fact_id is not None and decision.operation != "NONE":
        memories[decision.fact_id] = row_of(decision.fact_id, asked)
