"""Answers to be scored: a question with what was retrieved, what was said and what should have been said."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smartmem.chat.importers.fields import Place, json_lines, required
from smartmem.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerSample:
    """One question with what was retrieved and answered. `human` is a label in 0..1 of whoever read the answer."""

    id: str
    question: str = ""
    response: str = ""
    reference: str = ""
    contexts: tuple[str, ...] = ()
    reference_contexts: tuple[str, ...] = ()
    context_ids: tuple[str, ...] = ()
    reference_ids: tuple[str, ...] = ()
    human: float | None = None


def load_samples(path: str | Path) -> list[AnswerSample]:
    """Samples of a JSONL file: the fields of `AnswerSample`, one object a line. `BadRecord` names line and field."""
    file = Path(path)
    fields = {field.name: field.default for field in dataclasses.fields(AnswerSample)}
    out: dict[str, AnswerSample] = {}
    for number, value in json_lines(file):
        place = Place(str(file), f"line {number}")
        record = dict(place.mapping(value))
        for name in sorted(set(record) - set(fields)):
            raise place.at(name).bad(f"is unknown; known are: {', '.join(fields)}")
        made: dict[str, Any] = {"id": place.at("id").text(required(place, record, "id"))}
        for name, given in record.items():
            here = place.at(name)
            if isinstance(fields[name], tuple):
                made[name] = tuple(here.at(i).text(one) for i, one in enumerate(here.items(given)))
            elif name == "human":
                if given is not None and (isinstance(given, bool) or not isinstance(given, int | float)):
                    raise here.bad(f"is {given!r}, expected a number from 0 to 1, or null")
                made[name] = given
            else:
                made[name] = here.text(given, blank=name != "id")
        if made["id"] in out:
            raise place.at("id").bad(f"is {made['id']!r}, which another line has")
        out[made["id"]] = AnswerSample(**made)
    if not out:
        raise DataError(f"{file} holds no sample; write one JSON object a line with {', '.join(fields)}")
    return list(out.values())
