"""Training of the tagger's conditional random fields on labelled messages."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pycrfsuite

from smartmem.clock import UTC
from smartmem.errors import BadRecord
from smartmem.memory.extract import features
from smartmem.memory.extract.features import OUTSIDE, Token
from smartmem.memory.extract.labelled import Label, Labelled
from smartmem.memory.extract.spans import marked
from smartmem.memory.facts import Message
from smartmem.text import language

# Chosen by cross-validation on the lists themselves (docs/extraction.md): weights of the L1 and L2 penalties.
PENALTIES = {"c1": 0.5, "c2": 0.3}
ITERATIONS = 100
# The day stands in for the message's own: rules need one to read "tomorrow", and no feature names a day.
_DAY = dt.datetime(2026, 1, 15, 12, tzinfo=UTC)

Sequences = list[tuple[list[list[str]], list[str]]]


def prepared(messages: Iterable[Labelled]) -> dict[str, Sequences]:
    """Features and tags of each message, by language; what takes the time, so cross-validation does it once."""
    made: dict[str, Sequences] = {}
    for one in messages:
        said = features.RULES.extract(
            Message(user_id=1, source_message_id=one.place, source_text=one.text, occurred_at=_DAY)
        )
        tokens, seen = features.read(one.text, said.facts)
        if tokens:
            sequence = ([features.BEGINNING, *seen], [OUTSIDE, *tags(tokens, one.labels)])
            made.setdefault(language(one.text), []).append(sequence)
    return made


def tags(tokens: Sequence[Token], labels: Sequence[Label]) -> list[str]:
    """The tag of each token: it belongs to the label that it lies in."""

    def inside(label: Label) -> list[int]:
        return [i for i, token in enumerate(tokens) if label.start <= token.start and token.end <= label.end]

    return marked(len(tokens), ((label.kind, inside(label)) for label in labels))


def train(sequences: Mapping[str, Sequences], folder: Path, *, iterations: int = ITERATIONS) -> list[Path]:
    """Write a model for each language into the folder. The same messages in the same order give the same bytes."""
    if not sequences:
        raise BadRecord("there is no labelled message to train on; give files as data/labelled has them")
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, known in sorted(sequences.items()):
        trainer = pycrfsuite.Trainer(algorithm="lbfgs", verbose=False)
        trainer.set_params({**PENALTIES, "max_iterations": iterations, "feature.possible_transitions": True})
        for seen, wanted in known:
            trainer.append(seen, wanted)
        path = folder / f"{name}.crfsuite"
        trainer.train(str(path))
        written.append(path)
    return written
