"""Evidence ids as annotators wrote them: repaired where the meaning is plain, refused with a reason where it is not."""

from __future__ import annotations

import re
from collections.abc import Collection

from smartmem.evaluation.datasets.records import Note

_ID = re.compile(r"D:?0*(\d+):0*(\d+)")
_SEPARATORS = re.compile(r"[;,\s]+")


def repair_dia_ids(values: list[object], known: Collection[str], record: str) -> tuple[tuple[str, ...], list[Note]]:
    """The turn ids that `values` name, each once and in order, and a note for whatever was not plain.

    Repaired: lists in one string (`D8:6; D9:17`, `D9:1 D4:4`), a stray colon (`D:11:26`), leading zeros (`D30:05`).
    Refused: what holds no id (`D`), and ids that no turn has. Nothing is guessed beyond that.
    """
    found: dict[str, None] = {}
    notes: list[Note] = []
    for index, value in enumerate(values):
        field = f"evidence[{index}]"
        if isinstance(value, str) and value in known:
            found[value] = None
            continue
        names = _read(value)
        good = [name for name in names or [] if name in known]
        missing = [name for name in names or [] if name not in known]
        if good:
            found.update(dict.fromkeys(good))
            notes.append(
                Note(kind="repaired", record=record, field=field, value=str(value), why=f"read as {', '.join(good)}")
            )
        if not names:
            notes.append(
                Note(kind="refused", record=record, field=field, value=str(value)[:80], why="holds no turn id")
            )
        notes.extend(
            Note(kind="refused", record=record, field=field, value=str(value)[:80], why=f"no turn {name}")
            for name in missing
        )
    return tuple(found), notes


def _read(value: object) -> list[str] | None:
    if not isinstance(value, str):
        return None
    parts = [part for part in _SEPARATORS.split(value.strip()) if part]
    matches = [_ID.fullmatch(part) for part in parts]
    if not parts or not all(matches):
        return None
    return [f"D{int(m[1])}:{int(m[2])}" for m in matches if m]
