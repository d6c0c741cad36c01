"""What a tagger trained on labelled messages is worth on messages that it has not seen, from those messages alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar
from zlib import crc32

from smartmem.errors import ConfigError
from smartmem.evaluation.datasets.labelled import labelled_gold
from smartmem.evaluation.memory_quality import ExtractionReport, Extracts, evaluate_extraction
from smartmem.memory.extract import create_extractor
from smartmem.memory.extract.labelled import Labelled
from smartmem.memory.extract.training import prepared, train
from smartmem.memory.facts import Message
from smartmem.progress import track

T = TypeVar("T")


class _ByFold:
    """Asks for each message the tagger that was trained without it."""

    def __init__(self, taggers: Sequence[Extracts], fold_of: dict[str, int]) -> None:
        self._taggers, self._fold_of = taggers, fold_of

    def extract(self, message: Message) -> Any:
        return self._taggers[self._fold_of[message.source_message_id or ""]].extract(message)


def cross_validate(
    blocks: Sequence[Sequence[Labelled]], folder: Path, folds: int = 5, min_confidence: float = 0.5
) -> ExtractionReport:
    """Train `folds` taggers, each without its share of the blocks, and measure each on that share.

    Blocks are dealt out in the order of a hash of what they say, so every fold gets as many.
    `folder` holds the taggers meanwhile. Raises `ConfigError` for fewer than two folds or too few messages.
    """
    if folds < 2 or folds > len(blocks):
        raise ConfigError(f"{folds} folds of {len(blocks)} blocks of messages; take 2 to {len(blocks)}")
    shares = _shares([block[0].text for block in blocks], folds)
    known = [prepared(block) for block in track(blocks, "read")]
    taggers: list[Extracts] = []
    for fold in track(range(folds), "train"):
        rest = [one for one, share in zip(known, shares, strict=True) if share != fold]
        names = {name for one in rest for name in one}
        if alone := {name for one in known for name in one} - names:
            # The package's own tagger would stand in, and it may know these very messages.
            raise ConfigError(f"all messages in {', '.join(sorted(alone))} are in one fold; give more of them")
        train({name: [pair for one in rest for pair in one.get(name, [])] for name in names}, folder / str(fold))
        taggers.append(create_extractor({"name": "tagger", "models": str(folder / str(fold))}))
    fold_of = {one.place: share for block, share in zip(blocks, shares, strict=True) for one in block}
    return evaluate_extraction(_ByFold(taggers, fold_of), labelled_gold(blocks), min_confidence=min_confidence)


def held_out(
    blocks: Sequence[Sequence[Labelled]], parts: int = 10
) -> tuple[list[Sequence[Labelled]], list[Sequence[Labelled]]]:
    """The blocks of messages to learn from and one part of so many to be measured on, as `one_in` parts them."""
    return one_in(blocks, lambda block: block[0].text, parts)


def one_in(blocks: Sequence[T], words: Callable[[T], str], parts: int = 10) -> tuple[list[T], list[T]]:
    """What to learn from and one part of so many to be measured on, by a hash of each block's `words`.

    Raises `ConfigError` for too few blocks.
    """
    if len(blocks) < parts:
        raise ConfigError(f"{len(blocks)} blocks of messages are too few to keep a share of 1 in {parts} back")
    shares = _shares([words(block) for block in blocks], parts)
    taught = [block for block, share in zip(blocks, shares, strict=True) if share]
    return taught, [block for block, share in zip(blocks, shares, strict=True) if not share]


def _shares(words: Sequence[str], count: int) -> list[int]:
    """The number of the share, below `count`, that each block is dealt to: in the order of a hash of what it says."""
    order = sorted(range(len(words)), key=lambda i: (crc32(words[i].encode()), i))
    shares = [0] * len(words)
    for rank, place in enumerate(order):
        shares[place] = rank % count
    return shares
