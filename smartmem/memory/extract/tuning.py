"""Tuning of the `encoder` extractor: low-rank changes to multilingual-e5-small and a linear layer that tags pieces.

Lists that people write differ from what people say, so messages are varied as they are read: their sentences change
places or one is left out, capitals and marks are dropped, two messages become one.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from smartmem.errors import BadRecord
from smartmem.memory.extract.encoder import TAGS
from smartmem.memory.extract.labelled import Label, Labelled
from smartmem.memory.extract.segment import mask, sentences
from smartmem.memory.extract.spans import marked
from smartmem.rag.head import BASE
from smartmem.rag.recipes.learn import NO_MARKS, Read, learn
from smartmem.text import language

# As all in recipes/learn, 4 was chosen on nine tenths of the lists, looking at the last tenth and the odd halves. Of 3
# the lists of now, which are longer by two thirds, make more steps than 4 did.
EPOCHS = 3

Spoken = tuple[str, tuple[Label, ...]]


def tune(messages: Sequence[Labelled], file: Path, *, epochs: int = EPOCHS, base: str = BASE) -> None:
    """Write an adapter (see `learn`). Takes some 20 minutes for 10,000 messages on two cores."""
    if not messages:
        raise BadRecord("there is no labelled message to tune on; give files as data/labelled has them")

    def all_of_them(tokenizer: Any, draw: random.Random) -> list[Read]:
        return [_read(*varied(one, messages, draw), tokenizer) for one in messages]

    learn(all_of_them, TAGS, file, base=base, epochs=epochs)


def _read(text: str, labels: Sequence[Label], tokenizer: Any) -> Read:
    """The pieces of a message and their tags: a piece belongs to the label that it touches with more than a space."""
    encoded = tokenizer.encode(mask(text))

    def inside(label: Label) -> list[int]:
        return [
            i for i, (start, end) in enumerate(encoded.offsets)
            if start < end and label.start < end and start < label.end and text[max(start, label.start) : end].strip()
        ]  # fmt: skip

    tags = marked(len(encoded.ids), ((label.kind, inside(label)) for label in labels))
    return encoded.ids, [TAGS.index(tag) for tag in tags]


def varied(one: Labelled, others: Sequence[Labelled], draw: random.Random) -> Spoken:
    """The message, perhaps in another form, with its labels in their places."""
    text, labels = _reordered(_roughened(one, draw), draw) if draw.random() < 0.35 else _roughened(one, draw)
    if draw.random() < 0.15:
        more, its = _roughened(draw.choice(others), draw)
        between = draw.choice([" ", " ", "\n", ". "])
        text, labels = text + between + more, (*labels, *_moved(its, len(text) + len(between)))
    return text, labels


def _roughened(one: Labelled, draw: random.Random) -> Spoken:
    """As people in a hurry type: now and then without capitals, marks or both. Lengths stay."""
    chance = draw.random()
    text = one.text
    lower = text.lower()
    if (chance < 0.12 or 0.22 <= chance < 0.3) and len(lower) == len(text):
        text = lower
    if 0.12 <= chance < 0.3:
        text = text.translate(NO_MARKS)
    return text, one.labels


def _reordered(spoken: Spoken, draw: random.Random) -> Spoken:
    """The sentences in another order, and sometimes one fewer; unchanged where a label spans two."""
    text, labels = spoken
    starts = [part.start for part in sentences(mask(text))][1:]
    parts = list(zip([0, *starts], [*starts, len(text)], strict=True))
    if len(parts) < 2 or not all(any(a <= one.start and one.end <= b for a, b in parts) for one in labels):
        return spoken
    draw.shuffle(parts)
    if draw.random() < 0.4:
        parts.pop()
    made, kept = "", list[Label]()
    for start, end in parts:
        if made and not made[-1].isspace() and language(text) == "en":
            made += " "
        kept += _moved([one for one in labels if start <= one.start and one.end <= end], len(made) - start)
        made += text[start:end]
    return made, tuple(kept)


def _moved(labels: Sequence[Label], by: int) -> Iterator[Label]:
    for one in labels:
        yield Label(start=one.start + by, end=one.end + by, kind=one.kind)
