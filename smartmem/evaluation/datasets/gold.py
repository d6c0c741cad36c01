"""The labels of smartmem-tiny beside its questions: what a message says that is worth keeping, what to do with it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from smartmem.chat.importers import parse
from smartmem.chat.importers.fields import Place, json_lines, required
from smartmem.errors import DataError
from smartmem.evaluation.datasets.registry import find_files
from smartmem.types import Role

Split = Literal["odd", "even"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldTurn:
    """A message of the user; `occurred_at` keeps the user's own offset out (UTC), `phenomena` tag what it is."""

    id: str
    dialogue_id: str
    conversation_id: str
    user_id: int
    text: str
    occurred_at: dt.datetime
    language: str
    phenomena: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldFact:
    """What a turn says that is worth keeping; `span` is where (code points, half-open)."""

    id: str
    turn_id: str
    user_id: int
    language: str
    span: tuple[int, int]
    memory_type: str
    content: str
    slot: str
    sensitivity_level: int
    is_explicit: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldDecision:
    """What to do with a fact (`fact_id`), or with a request to take one back (`fact_id` is None)."""

    id: str
    user_id: int
    turn_id: str
    fact_id: str | None
    operation: str
    target_fact_id: str | None
    relation: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Gold:
    """All labels, users in file order and each user's in order of time."""

    turns: tuple[GoldTurn, ...]
    facts: tuple[GoldFact, ...]
    decisions: tuple[GoldDecision, ...]

    def facts_of(self) -> dict[str, list[GoldFact]]:
        """turn id → its facts."""
        found: dict[str, list[GoldFact]] = {turn.id: [] for turn in self.turns}
        for fact in self.facts:
            found[fact.turn_id].append(fact)
        return found


def load_gold(folder: str | Path | None = None, split: Split | None = None) -> Gold:
    """The labels in `folder` (default: data/tiny). `split` keeps the users with odd or even numbers.

    Rules are tuned on odd users and reported on even ones (data/tiny/README.md). `BadRecord` names file, line, field.
    """
    place = Path(folder) if folder is not None else next(iter(find_files("smartmem-tiny").values()), None)
    if place is None or not place.is_dir():
        raise DataError(f"{place or 'data/tiny'} is not a folder of labels; it is part of the project's repository")
    keep = (lambda user: user % 2 == (split == "odd")) if split else (lambda user: True)
    tags = _tags(place / "phenomena.jsonl")
    turns = [
        GoldTurn(
            id=turn.id,
            dialogue_id=str(parsed.raw["dialogue_id"]),
            conversation_id=parsed.conversation.id,
            user_id=parsed.conversation.user_id,
            text=turn.text,
            occurred_at=turn.occurred_at or dt.datetime.min.replace(tzinfo=dt.UTC),
            language=str(parsed.raw.get("language", "")),
            phenomena=tags.get(turn.id, ()),
        )
        for parsed in parse(place, "tiny")
        for turn in parsed.conversation.turns()
        if turn.role is Role.USER and keep(parsed.conversation.user_id)
    ]
    texts = {turn.id: turn for turn in turns}
    return Gold(
        turns=tuple(turns),
        facts=tuple(_facts(place / "facts.jsonl", texts, keep)),
        decisions=tuple(_decisions(place / "decisions.jsonl", texts, keep)),
    )


def _tags(path: Path) -> dict[str, tuple[str, ...]]:
    found = {}
    for number, value in json_lines(path):
        place = Place(str(path), f"line {number}")
        record = place.mapping(value)
        listed = place.at("phenomena").items(required(place, record, "phenomena"))
        found[place.at("turn_id").text(required(place, record, "turn_id"))] = tuple(map(str, listed))
    return found


def _facts(path: Path, turns: Mapping[str, GoldTurn], keep: object) -> list[GoldFact]:
    made = []
    for number, value in json_lines(path):
        place = Place(str(path), f"line {number}")
        record = place.mapping(value)
        if not keep(place.at("user_id").number(required(place, record, "user_id"))):  # type: ignore[operator]
            continue
        turn = place.at("turn_id").text(required(place, record, "turn_id"))
        span = [
            place.at("span", i).number(v, least=0) for i, v in enumerate(place.at("span").items(record.get("span")))
        ]
        if turn not in turns or len(span) != 2 or not span[0] < span[1] <= len(turns[turn].text):
            raise place.at("span").bad(f"is {span}, expected two places inside the user's turn {turn!r}")
        made.append(
            GoldFact(
                id=place.at("fact_id").text(required(place, record, "fact_id")),
                turn_id=turn,
                user_id=record["user_id"],
                language=str(record.get("language", "")),
                span=(span[0], span[1]),
                memory_type=place.at("memory_type").text(required(place, record, "memory_type")),
                content=place.at("content").text(required(place, record, "content")),
                slot=place.at("slot").text(required(place, record, "slot")),
                sensitivity_level=place.at("sensitivity_level").number(required(place, record, "sensitivity_level")),
                is_explicit=bool(record.get("is_explicit")),
            )
        )
    return made


def _decisions(path: Path, turns: Mapping[str, GoldTurn], keep: object) -> list[GoldDecision]:
    made = []
    for number, value in json_lines(path):
        place = Place(str(path), f"line {number}")
        record = place.mapping(value)
        if not keep(place.at("user_id").number(required(place, record, "user_id"))):  # type: ignore[operator]
            continue
        turn = place.at("turn_id").text(required(place, record, "turn_id"))
        if turn not in turns:
            raise place.at("turn_id").bad(f"is {turn!r}, which is no turn of a user")
        made.append(
            GoldDecision(
                id=place.at("decision_id").text(required(place, record, "decision_id")),
                user_id=record["user_id"],
                turn_id=turn,
                fact_id=required(place, record, "fact_id"),
                operation=place.at("operation").text(required(place, record, "operation")),
                target_fact_id=required(place, record, "target_fact_id"),
                relation=place.at("relation").text(required(place, record, "relation")),
            )
        )
    return made
