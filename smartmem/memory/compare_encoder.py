"""The `encoder` comparator: a multilingual encoder, tuned on labelled histories, reads the new fact beside each memory.

It sees that "first week at the harbour office" replaces "I pull espresso in a café", where slots and common words say
nothing. What the `rules` comparator says counts beside it by Bayes' rule, as if both judged for themselves:
P(relation | both) ~ P(relation | encoder) · P(what the rules say | relation).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smartmem.memory.compare import Comparison, Relation, comparator
from smartmem.memory.compare_rules import RulesComparator, same_whatever
from smartmem.memory.facts import Fact
from smartmem.memory.polarity import values
from smartmem.rag.head import head

PACKAGED = Path(str(resources.files("smartmem.memory"))) / "tuned" / "comparator.safetensors"
RELATIONS = tuple(Relation)
# P(what the rules say | relation), rows and columns in the order of RELATIONS: counted over the histories of the home
# and work files that the package's adapter was tuned on (tests/unit/test_histories.py counts again). The life files
# were written against rules and encoder: counted with them the rules say less than they do in a chat (odd halves).
_RULES_SAY = np.array(
    [
        [0.250, 0.139, 0.075, 0.003, 0.533],
        [0.024, 0.355, 0.008, 0.003, 0.610],
        [0.074, 0.127, 0.159, 0.005, 0.635],
        [0.007, 0.007, 0.007, 0.658, 0.322],
        [0.002, 0.011, 0.001, 0.001, 0.985],
    ]
)


@comparator("encoder")
class EncoderComparator:
    """Option: `adapter`, your own file of `smartmem comparator tune`. Needs the model multilingual-e5-small
    (`smartmem models get`)."""

    def __init__(self, adapter: str | None = None) -> None:
        self._rules = RulesComparator()
        file = Path(adapter).expanduser() if adapter else PACKAGED
        self._head = head(file, labels=len(RELATIONS), what="relations")

    def compare(self, fact: Fact, candidates: Sequence[Mapping[str, Any]]) -> Sequence[Comparison | Exception]:
        if not candidates:
            return []
        by_rules = self._rules.compare(fact, candidates)
        read = self._head.encoder.hidden_pairs(fact.content, [row["content"] for row in candidates])
        triples = zip(candidates, read, by_rules, strict=True)
        return [_verdict(fact, row, self._head.probabilities(states[:1])[0], said) for row, states, said in triples]


def _verdict(
    fact: Fact, row: Mapping[str, Any], alone: NDArray[np.float32], said: Comparison | Exception
) -> Comparison | Exception:
    """`alone`: what the encoder by itself gives each relation."""
    if isinstance(said, Exception):
        return said
    both = alone * _RULES_SAY[:, RELATIONS.index(said.relation)]
    likely = _possible(fact, row, both / both.sum())
    relation = max(likely, key=lambda one: likely[one])
    reason = f"the encoder {alone.max():.2f} sure of {RELATIONS[int(alone.argmax())]}"
    if said.reason:
        reason += f"; rules: {said.relation}, {said.reason}"
    return Comparison(relation=relation, score=likely[relation], reason=reason)


def _possible(fact: Fact, row: Mapping[str, Any], p: NDArray[np.floating[Any]]) -> dict[Relation, float]:
    """What the pair cannot be goes to the nearest thing that it can: a statement does not take back, a request to
    forget does nothing else, an allergy is the same in whatever words, and what names another number is no repeat."""
    likely = {relation: float(one) for relation, one in zip(RELATIONS, p, strict=True)}
    alone = likely.pop(Relation.UNRELATED)
    if fact.action == "retract":
        likely = {Relation.RETRACTION: sum(likely.values())}
    else:
        likely[Relation.CONFLICT] += likely.pop(Relation.RETRACTION)
        new, old = values(fact.content), values(row["content"])
        if old and new - old:
            likely[Relation.UPDATE] += likely.pop(Relation.DUPLICATE)
    return likely if same_whatever(fact, row) else {Relation.UNRELATED: alone, **likely}
