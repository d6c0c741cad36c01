"""Labelled messages: one a line, what is worth keeping in braces with its type.

    Hi there! {f:I'm a paramedic in Glasgow} and I've just come off shift.

`{f:…}` fact, `{p:…}` preference, `{c:…}` constraint, `{t:…}` to-do, `{r:…}` the words that take something back; a line
without braces must yield nothing. A line break inside a message is written `\\n`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import regex

from smartmem.errors import BadRecord
from smartmem.types import MemoryType

RETRACTION = "retraction"
CODES = {
    "f": MemoryType.FACT.value,
    "p": MemoryType.PREFERENCE.value,
    "c": MemoryType.CONSTRAINT.value,
    "t": MemoryType.TODO_HINT.value,
    "r": RETRACTION,
}
_LABEL = regex.compile(r"\{(\w*):([^{}]*)\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """A stretch `[start, end)` of a message, in code points, and its type: a memory type or `retraction`."""

    start: int
    end: int
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """A message with its labels, in order; `place` is its file and line."""

    text: str
    labels: tuple[Label, ...]
    place: str

    @property
    def facts(self) -> list[str]:
        """What an extractor should assert of it."""
        return [self.text[one.start : one.end] for one in self.labels if one.kind != RETRACTION]


def read_labelled(path: Path) -> Iterator[Labelled]:
    """The messages of a file. Raises `BadRecord` with file and line for a brace that is no label."""
    for number, line in enumerate(lines_of(path, "labelled messages"), 1):
        if line.strip():
            yield _parse(line.replace("\\n", "\n"), f"{path}:{number}")


def lines_of(path: Path, what: str) -> list[str]:
    """The lines of a file. Raises `BadRecord` for one that cannot be read, asking for a text file of `what`."""
    try:
        return path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadRecord(f"{path}: cannot be read: {error}; give a UTF-8 text file of {what}") from None


def _parse(line: str, place: str) -> Labelled:
    text, labels, end = "", [], 0
    for match in _LABEL.finditer(line):
        if match[1] not in CODES or not match[2].strip():
            raise BadRecord(f"{place}: {match[0]!r} is no label; write {{f:…}} with one of {', '.join(CODES)}")
        text += line[end : match.start()]
        labels.append(Label(start=len(text), end=len(text) + len(match[2]), kind=CODES[match[1]]))
        text += match[2]
        end = match.end()
    text += line[end:]
    if "{" in text or "}" in text:
        raise BadRecord(f"{place}: a brace without its pair or inside a label; labels do not nest")
    return Labelled(text=text, labels=tuple(labels), place=place)
