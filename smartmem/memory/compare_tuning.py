"""Tuning of the `encoder` comparator on labelled histories: statements beside memories, and what they do to them."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from smartmem.errors import BadRecord
from smartmem.memory.compare import Relation
from smartmem.memory.compare_encoder import RELATIONS
from smartmem.memory.histories import History
from smartmem.memory.similarity import similarity
from smartmem.rag.head import BASE
from smartmem.rag.recipes.learn import NO_MARKS, NOT_ASKED, Read, learn

EPOCHS = 4
_ALIKE, _ANY = 1, 1  # memories that a statement leaves alone and is shown beside it, each time: the likest, and any

Pair = tuple[str, str, Relation]  # new, old, what new does to old


def tune(histories: Sequence[History], file: Path, *, epochs: int = EPOCHS, base: str = BASE) -> None:
    """Write an adapter (see `learn`)."""
    if not histories:
        raise BadRecord("there is no labelled history to tune on; give files as data/changes has them")

    def all_of_them(tokenizer: Any, draw: random.Random) -> list[Read]:
        return [_read(pair, tokenizer, draw) for history in histories for pair in pairs(history, draw)]

    learn(all_of_them, [str(one) for one in RELATIONS], file, base=base, epochs=epochs)


def pairs(history: History, draw: random.Random) -> Iterator[Pair]:
    """Each statement with the memory that it concerns and with some that it leaves alone."""
    for said in history.statements:
        rest = dict(history.memories)
        if said.target is not None:
            old = rest.pop(said.target)
            yield said.text, old.text, said.relation
            if said.relation is Relation.DUPLICATE:
                yield old.text, said.text, said.relation
        others = sorted(rest.values(), key=lambda kept: -similarity(said.text, kept.text))
        shown = others[:_ALIKE] + draw.sample(others[_ALIKE:], min(_ANY, len(others[_ALIKE:])))
        for kept in shown:
            yield said.text, kept.text, Relation.UNRELATED


def _read(pair: Pair, tokenizer: Any, draw: random.Random) -> Read:
    """The pieces of both texts; the first, which stands for all of them, carries the label."""
    new, old, relation = pair
    encoded = tokenizer.encode(_roughened(new, draw), _roughened(old, draw))
    return encoded.ids, [RELATIONS.index(relation), *[NOT_ASKED] * (len(encoded.ids) - 1)]


def _roughened(text: str, draw: random.Random) -> str:
    """As people in a hurry type: now and then without capitals, marks or both; or with a full stop."""
    chance = draw.random()
    if chance < 0.2:
        text = text.lower()
    if 0.1 < chance < 0.3:
        text = text.translate(NO_MARKS)
    return text + "." if chance > 0.85 else text
