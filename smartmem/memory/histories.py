"""Labelled histories: memories of a person, and what each of the person's later statements does to them.

    1 f night nurse at St James's
    2 c no calls before noon
    ~ 1 f I've gone to days
    - 2 forget the thing about calls
    + f my sister is a nurse too

A memory is its number, its type (`f` fact, `p` preference, `c` constraint, `t` to-do) and its words. A statement begins
with what it does: `=` repeats, `~` updates, `!` denies, `-` takes back, each with the memory's number; `+` stands
beside all of them. It is compared with the memories only, never with another statement. An empty line ends a person.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import regex

from smartmem.clock import parse_time
from smartmem.errors import BadRecord
from smartmem.memory.compare import Relation
from smartmem.memory.extract.labelled import CODES, RETRACTION, lines_of
from smartmem.memory.extract.slots import slot_of
from smartmem.memory.facts import Candidate, Fact
from smartmem.memory.normalise import normalise_facts

SIGNS = {
    "=": Relation.DUPLICATE,
    "~": Relation.UPDATE,
    "!": Relation.CONFLICT,
    "-": Relation.RETRACTION,
    "+": Relation.UNRELATED,
}
_TYPES = "".join(code for code, kind in CODES.items() if kind != RETRACTION)
_MEMORY = regex.compile(rf"(?P<number>\d+) (?P<kind>[{_TYPES}]) (?P<text>\S.*)")
_STATEMENT = regex.compile(
    rf"(?P<sign>[=~!]) (?P<number>\d+) (?P<kind>[{_TYPES}]) (?P<text>\S.*)"
    rf"|(?P<sign>-) (?P<number>\d+) (?P<text>\S.*)|(?P<sign>\+) (?P<kind>[{_TYPES}]) (?P<text>\S.*)"
)
_SAID, _LATER = parse_time("2026-01-15T12:00:00Z"), parse_time("2026-03-15T12:00:00Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A memory of a history."""

    kind: str
    text: str

    @property
    def fact(self) -> Fact:
        return _fact(self.kind, self.text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What is said later, and what it does to which memory (None: it stands beside all)."""

    relation: Relation
    target: int | None
    kind: str
    text: str

    @property
    def fact(self) -> Fact:
        return _fact(self.kind, self.text, taken_back=self.relation is Relation.RETRACTION)


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """One person's memories by number, and the statements; `place` is the file and the first line."""

    memories: dict[int, Kept]
    statements: tuple[Statement, ...]
    place: str


def read_histories(path: Path) -> Iterator[History]:
    """The histories of a file. Raises `BadRecord` with file and line for what is none of it."""
    block: list[tuple[int, str]] = []
    for number, line in enumerate([*lines_of(path, "labelled histories"), ""], 1):
        if line.strip():
            block.append((number, line.strip()))
        elif block:
            yield _history(block, path)
            block = []


def _history(block: Sequence[tuple[int, str]], path: Path) -> History:
    memories: dict[int, Kept] = {}
    statements: list[Statement] = []
    for number, line in block:
        if found := _MEMORY.fullmatch(line):
            if int(found["number"]) in memories or statements:
                raise BadRecord(f"{path}:{number}: {line!r}: memories come first, each with a number of its own")
            memories[int(found["number"])] = Kept(kind=CODES[found["kind"]], text=found["text"])
            continue
        found = _STATEMENT.fullmatch(line)
        if found is None:
            raise BadRecord(f"{path}:{number}: {line!r} is no memory and no statement (data/changes/README.md)")
        target = int(found["number"]) if found["number"] else None
        if target is not None and target not in memories:
            raise BadRecord(f"{path}:{number}: there is no memory {target}; give one of {sorted(memories)}")
        kind = CODES[found["kind"]] if found["kind"] else memories[target or 0].kind
        statements.append(Statement(relation=SIGNS[found["sign"]], target=target, kind=kind, text=found["text"]))
    return History(memories=memories, statements=tuple(statements), place=f"{path}:{block[0][0]}")


def _fact(kind: str, text: str, *, taken_back: bool = False) -> Fact:
    candidate = Candidate(
        memory_type=kind,
        content=text,
        slot=slot_of(kind, text, None),
        confidence=1.0,
        action="retract" if taken_back else "assert",
    )
    return normalise_facts([candidate], _LATER if taken_back else _SAID).facts[0]
