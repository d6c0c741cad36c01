"""LoCoMo and REALTALK: numbered sessions of two people, with questions beside them.

LoCoMo (snap-research/locomo): a list of {sample_id, conversation, qa}; a conversation has speaker_a, speaker_b, and
session_N with session_N_date_time for each N.
REALTALK (danny911kr/REALTALK): one object a file: {name, session_N, session_N_date_time, qa}; a turn has `clean_text`
and its own `date_time`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from smartmem.chat.importers.fields import Place, json_array, locomo_time, read_json, realtalk_time, required
from smartmem.chat.importers.records import Conversation, Parsed, Session, Turn
from smartmem.errors import DataError
from smartmem.types import Role

_SESSION = re.compile(r"session_(\d+)")


def with_caption(text: str, caption: str | None) -> str:
    """A turn's text with its image's caption in brackets: `Look! [image: a dog on a beach]`.

    Questions ask for what is only seen in the image, so a retriever must be able to find it.
    """
    return f"{text} [image: {caption}]".strip() if caption else text


def locomo(path: Path) -> Iterator[Parsed]:
    """The conversations of a LoCoMo file; both speakers are people, so both have the role `user`."""
    for number, value in json_array(path):
        place = Place(str(path), f"record {number}")
        record = place.mapping(value)
        name = place.at("sample_id").text(required(place, record, "sample_id"))
        place = Place(str(path), f"record {number} ({name})")
        talk_place = place.at("conversation")
        talk = talk_place.mapping(required(place, record, "conversation"))
        speakers = {talk_place.at(key).text(required(talk_place, talk, key)) for key in ("speaker_a", "speaker_b")}
        sessions = tuple(_locomo_session(talk_place, talk, n, speakers) for n in _session_numbers(talk_place, talk))
        _unique(talk_place, sessions)
        yield Parsed(
            conversation=Conversation(id=name, user_id=number, sessions=sessions),
            record=number,
            path=str(path),
            raw=record,
        )


def _session_numbers(place: Place, talk: Mapping[str, Any]) -> list[int]:
    """The numbers of the sessions that have turns. A date without turns is common in the file and says nothing."""
    numbers = sorted(int(found[1]) for key in talk if (found := _SESSION.fullmatch(key)))
    if not numbers:
        raise place.bad("has no session_1, session_2 …; expected lists of turns under these names")
    return numbers


def _locomo_session(place: Place, talk: Mapping[str, Any], number: int, speakers: set[str]) -> Session:
    stamp = f"session_{number}_date_time"
    at = place.at(stamp).time(required(place, talk, stamp), locomo_time)
    place = place.at(f"session_{number}")
    turns = []
    for index, value in enumerate(place.items(talk[f"session_{number}"])):
        here = place.at(index)
        turn = here.mapping(value)
        speaker = here.at("speaker").text(required(here, turn, "speaker"))
        if speaker not in speakers:
            raise here.at("speaker").bad(f"is {speaker!r}, expected one of {', '.join(sorted(speakers))}")
        caption = _caption(here, turn)
        text = here.at("text").text(required(here, turn, "text"), blank=caption is not None)
        turns.append(
            Turn(
                id=here.at("dia_id").text(required(here, turn, "dia_id")),
                speaker=speaker,
                role=Role.USER,
                text=with_caption(text, caption),
                occurred_at=at,
            )
        )
    return Session(id=f"session_{number}", turns=tuple(turns), occurred_at=at)


def _caption(place: Place, turn: Mapping[str, Any]) -> str | None:
    if turn.get("blip_caption") is None:
        return None
    return place.at("blip_caption").text(turn["blip_caption"], blank=True).strip() or None


def _unique(place: Place, sessions: tuple[Session, ...]) -> None:
    seen: dict[str, str] = {}
    for session in sessions:
        for turn in session.turns:
            if turn.id in seen:
                raise place.at(session.id).bad(f"dia_id {turn.id!r} is already used in {seen[turn.id]}")
            seen[turn.id] = session.id


def realtalk(path: Path) -> Iterator[Parsed]:
    """One chat file, or a folder of `Chat_*.json` (in the order of their numbers)."""
    files = [path]
    if path.is_dir():
        files = sorted(path.glob("*.json"), key=lambda file: (_number_in(file.stem), file.name))
        if not files:
            raise DataError(f"{path}: no *.json in this folder; REALTALK has one file a chat (Chat_1_….json)")
    for number, file in enumerate(files, start=1):
        yield _realtalk_chat(file, number)


def _number_in(stem: str) -> int:
    found = re.search(r"\d+", stem)
    return int(found[0]) if found else 0


def _realtalk_chat(path: Path, number: int) -> Parsed:
    place = Place(str(path), f"record {number} ({path.stem})")
    record = place.mapping(read_json(path))
    sessions = tuple(_realtalk_session(place, record, n) for n in _session_numbers(place, record))
    _unique(place, sessions)
    return Parsed(
        conversation=Conversation(id=path.stem, user_id=number, sessions=sessions),
        record=number,
        path=str(path),
        raw=record,
    )


def _realtalk_session(place: Place, record: Mapping[str, Any], number: int) -> Session:
    stamp = f"session_{number}_date_time"
    at = place.at(stamp).time(required(place, record, stamp), realtalk_time)
    place = place.at(f"session_{number}")
    turns = []
    for index, value in enumerate(place.items(record[f"session_{number}"])):
        here = place.at(index)
        turn = here.mapping(value)
        # `clean_text` is the published field; older exports of the same chats call it `text`, as LoCoMo does.
        key = "clean_text" if "clean_text" in turn or "text" not in turn else "text"
        # People send images without a word: such a turn is kept, so that the ids and counts stay whole.
        text = here.at(key).text(required(here, turn, key), blank=True)
        said = turn.get("date_time")
        turns.append(
            Turn(
                id=here.at("dia_id").text(required(here, turn, "dia_id")),
                speaker=here.at("speaker").text(required(here, turn, "speaker")),
                role=Role.USER,
                text=with_caption(text, _caption(here, turn)),
                occurred_at=at if said is None else here.at("date_time").time(said, realtalk_time),
            )
        )
    return Session(id=f"session_{number}", turns=tuple(turns), occurred_at=at)
