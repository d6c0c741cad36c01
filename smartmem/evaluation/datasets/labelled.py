"""Labelled messages as gold facts, so that an extractor is held against your own list as it is against data/tiny."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path

from smartmem.clock import parse_time
from smartmem.evaluation.datasets.gold import Gold, GoldFact, GoldTurn
from smartmem.memory.extract.labelled import RETRACTION, Labelled, read_labelled
from smartmem.text import language

BLOCK = (
    10  # lines that count as one person's: neighbours in such a list are alike, so intervals and folds keep them whole
)
_SAID_AT = parse_time("2026-01-15T12:00:00Z")


def read_lists(paths: Iterable[Path]) -> list[list[Labelled]]:
    """The messages of the files in blocks of up to `BLOCK` lines, none of which spans two files."""
    made: list[list[Labelled]] = []
    for path in paths:
        for _, block in groupby(enumerate(read_labelled(path)), key=lambda pair: pair[0] // BLOCK):
            made.append([one for _, one in block])
    return made


def labelled_gold(blocks: Sequence[Sequence[Labelled]]) -> Gold:
    """Each block is a user. There are no decisions, and what is taken back is no fact."""
    turns: list[GoldTurn] = []
    facts: list[GoldFact] = []
    for user, block in enumerate(blocks, 1):
        for one in block:
            spoken = language(one.text)
            turns.append(
                GoldTurn(
                    id=one.place, dialogue_id=str(user), conversation_id=str(user), user_id=user, text=one.text,
                    occurred_at=_SAID_AT, language=spoken,
                )
            )  # fmt: skip
            facts += [
                GoldFact(
                    id=f"{one.place}:{label.start}", turn_id=one.place, user_id=user, language=spoken,
                    span=(label.start, label.end), memory_type=label.kind, content=one.text[label.start : label.end],
                    slot="", sensitivity_level=0, is_explicit=False,
                )
                for label in one.labels
                if label.kind != RETRACTION
            ]  # fmt: skip
    return Gold(turns=tuple(turns), facts=tuple(facts), decisions=())
