"""The `encoder` extractor: a multilingual encoder, tuned to mark what is worth keeping, beside the `tagger`'s field.

The encoder (multilingual-e5-small with low-rank changes, made by `smartmem tagger tune`) reads the whole passage where
the field sees a few words, and finds more; the field knows what the rules say, and is the more careful of the two. The
probabilities of both are averaged, word by word.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smartmem.memory.extract import features
from smartmem.memory.extract.base import Extraction, extractor
from smartmem.memory.extract.labelled import CODES
from smartmem.memory.extract.segment import mask
from smartmem.memory.extract.spans import Span, check_probability, facts_by, stretches
from smartmem.memory.extract.tagger import PACKAGED, check_models, field_for
from smartmem.memory.facts import Candidate, Message
from smartmem.rag.head import Head, head

TAGS = (features.OUTSIDE, *(f"{place}-{code}" for code in CODES for place in "BI"))
WINDOW = 400  # characters read at once, as long as what it was tuned on
_WEIGHT = 0.7  # of the encoder's word against the field's, chosen on the odd halves
_BEGIN, _INSIDE = ([i for i, tag in enumerate(TAGS) if tag[0] == place] for place in "BI")
# An inside tag goes on with what came before; a new stretch does not touch the one before it, if that is of its kind.
_FOLLOWS = np.array([[0.0 if b == "O" or (a[1:] == b[1:]) is (b[0] == "I") else -np.inf for b in TAGS] for a in TAGS])

Probabilities = NDArray[np.floating[Any]]


@extractor("encoder")
@dataclass(frozen=True, slots=True)
class EncoderExtractor:
    """Options: `max_facts`, the most facts of one message (the most confident stand); `min_probability`, 0 to 1, below
    which a stretch is left out; `adapter`, your own file of `smartmem tagger tune`; `models`, a folder of your own
    `smartmem tagger train`. Needs the model multilingual-e5-small (`smartmem models get`); with an adapter that it has
    not met yet it builds a graph of both first, in some seconds."""

    max_facts: int = 3
    min_probability: float = 0.75
    adapter: str | None = None
    models: str | None = None

    def __post_init__(self) -> None:
        check_probability("encoder", self.min_probability)
        check_models("encoder", self.models)
        self._head()  # what is missing or broken shows here, not at the first message

    @property
    def concurrency(self) -> int:
        return 1

    def extract(self, message: Message) -> Extraction:
        return facts_by(
            self._spans, message, min_probability=self.min_probability, max_facts=self.max_facts, window=WINDOW
        )

    @property
    def _file(self) -> Path:
        if self.adapter is not None:
            return Path(self.adapter).expanduser()
        return PACKAGED / "encoder.safetensors"

    def _head(self) -> Head:
        return head(self._file, labels=len(TAGS), what="tags")

    def _spans(self, text: str, known: Sequence[Candidate]) -> list[Span]:
        tokens, seen = features.read(text, known)
        if not tokens:
            return []
        places = [(token.start, token.end) for token in tokens]
        by_field = field_for(text, self.models).probabilities(seen, TAGS)
        mixed = _WEIGHT * _by_encoder(text, places, self._head(), by_field) + (1 - _WEIGHT) * by_field
        return stretches(likeliest(mixed), places, (1 - mixed[:, 0]).tolist())


def likeliest(probabilities: Probabilities) -> list[str]:
    """The best allowed sequence of tags (Viterbi) for probabilities of shape (words, tags)."""
    scores = np.log(probabilities + 1e-9)
    best = scores[0].copy()
    best[_INSIDE] = -np.inf
    steps = []
    for here in scores[1:]:
        through = best[:, None] + _FOLLOWS
        steps.append(through.argmax(axis=0))
        best = through.max(axis=0) + here
    path = [int(best.argmax())]
    for step in reversed(steps):
        path.append(int(step[path[-1]]))
    return [TAGS[i] for i in reversed(path)]


def _by_encoder(text: str, places: Sequence[tuple[int, int]], model: Head, otherwise: Probabilities) -> Probabilities:
    """The tag probabilities of words, each read off the first of its pieces; `otherwise` for what has none."""
    states, spots = model.encoder.aligned(mask(text))
    by_piece = model.probabilities(states)
    first = np.full(len(text), -1)
    for i, (start, end) in reversed(list(enumerate(spots))):
        if text[start:end].strip():
            first[start:end] = i
    made = otherwise.copy()
    for row, (start, _) in enumerate(places):
        piece = first[start]
        if piece < 0:
            continue
        made[row] = by_piece[piece]
        if text[spots[piece][0] : start].strip():  # a piece of several words (Chinese): only its first can begin
            made[row, _INSIDE] += made[row, _BEGIN]
            made[row, _BEGIN] = 0
    return made
