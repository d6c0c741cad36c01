"""Formats in which one person talks with an assistant: our own JSONL, smartmem-tiny, LongMemEval, MADial, BEAM."""

from __future__ import annotations

import ast
import datetime as dt
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from smartmem.chat.importers.fields import (
    Place,
    beam_time,
    json_array,
    json_lines,
    longmemeval_time,
    read_json,
    required,
)
from smartmem.chat.importers.records import Conversation, Parsed, Session, Turn
from smartmem.clock import parse_time
from smartmem.errors import DataError
from smartmem.types import Role

_MADIAL_TURN = re.compile(r"\s*<([^>]{1,40})>\s*[:：]\s*(.*)", re.DOTALL)
_MADIAL_MARKS = {"<BOD>", "<EOD>"}
_MESSAGE_FIELDS = {
    "kind", "conversation_id", "user_id", "role", "speaker", "content", "occurred_at", "client_message_id", "session_id"
}  # fmt: skip


def jsonl(path: Path) -> Iterator[Parsed]:
    """Our own format: one message a line; lines of another `kind` (queries) belong to the evaluation loader.

    {"conversation_id": "c1", "user_id": 7, "role": "user", "content": "…", "occurred_at": "2026-01-31T09:00:00Z"}
    and, optional, "speaker", "client_message_id" (default: the line's number) and "session_id".
    """
    turns: dict[str, dict[str, list[Turn]]] = {}
    owner: dict[str, int] = {}
    seen: dict[tuple[str, str], int] = {}
    for number, value in json_lines(path):
        place = Place(str(path), f"line {number}")
        record = place.mapping(value)
        if record.get("kind", "message") != "message":
            continue
        for name in sorted(set(record) - _MESSAGE_FIELDS):
            raise place.at(name).bad(f"is unknown; known are: {', '.join(sorted(_MESSAGE_FIELDS))}")
        talk = place.at("conversation_id").text(required(place, record, "conversation_id"))
        user = place.at("user_id").number(required(place, record, "user_id"), least=1)
        if owner.setdefault(talk, user) != user:
            raise place.at("user_id").bad(f"is {user}, but conversation {talk!r} belongs to user {owner[talk]}")
        role = place.at("role").role(required(place, record, "role"))
        turn_id = place.at("client_message_id").text(str(record.get("client_message_id") or f"line-{number}"))
        if (talk, turn_id) in seen:
            raise place.at("client_message_id").bad(f"{turn_id!r} is already used in line {seen[talk, turn_id]}")
        seen[talk, turn_id] = number
        at = place.at("occurred_at").time(required(place, record, "occurred_at"), parse_time)
        turn = Turn(
            id=turn_id,
            speaker=place.at("speaker").text(record.get("speaker") or str(role)),
            role=role,
            text=place.at("content").text(required(place, record, "content"), blank=True),
            occurred_at=at,
        )
        session = place.at("session_id").text(record.get("session_id") or "session_1")
        turns.setdefault(talk, {}).setdefault(session, []).append(turn)
    for number, (talk, sessions) in enumerate(turns.items(), start=1):
        yield Parsed(
            conversation=Conversation(
                id=talk,
                user_id=owner[talk],
                sessions=tuple(
                    Session(id=k, turns=tuple(v), occurred_at=v[0].occurred_at) for k, v in sessions.items()
                ),
            ),
            record=number,
            path=str(path),
        )


def tiny(path: Path) -> Iterator[Parsed]:
    """data/tiny (the folder or its dialogues.jsonl): one dialogue a line, each its own conversation."""
    file = path / "dialogues.jsonl" if path.is_dir() else path
    for number, value in json_lines(file):
        place = Place(str(file), f"line {number}")
        record = place.mapping(value)
        name = place.at("dialogue_id").text(required(place, record, "dialogue_id"))
        place = Place(str(file), f"line {number} ({name})")
        turns = []
        listed = place.at("turns")
        for index, item in enumerate(listed.items(required(place, record, "turns"))):
            here = listed.at(index)
            turn = here.mapping(item)
            role = here.at("role").role(required(here, turn, "role"))
            turns.append(
                Turn(
                    id=here.at("turn_id").text(required(here, turn, "turn_id")),
                    speaker=here.at("speaker").text(turn.get("speaker") or str(role)),
                    role=role,
                    text=here.at("text").text(required(here, turn, "text")),
                    occurred_at=here.at("occurred_at").time(required(here, turn, "occurred_at"), parse_time),
                )
            )
        if not turns:
            raise listed.bad("is empty, expected at least one turn")
        session = Session(id=name, turns=tuple(turns), occurred_at=turns[0].occurred_at)
        yield Parsed(
            conversation=Conversation(
                id=place.at("conversation_id").text(required(place, record, "conversation_id")),
                user_id=place.at("user_id").number(required(place, record, "user_id"), least=1),
                sessions=(session,),
            ),
            record=number,
            path=str(file),
            raw=record,
        )


def longmemeval(path: Path) -> Iterator[Parsed]:
    """A list of questions with a haystack of sessions each: every question becomes a conversation and a user."""
    for number, value in json_array(path):
        place = Place(str(path), f"record {number}")
        record = place.mapping(value)
        name = place.at("question_id").text(required(place, record, "question_id"))
        place = Place(str(path), f"record {number} ({name})")
        columns = ("haystack_session_ids", "haystack_dates", "haystack_sessions")
        ids, dates, talks = (place.at(key).items(required(place, record, key)) for key in columns)
        if not len(ids) == len(dates) == len(talks):
            raise place.at("haystack_sessions").bad(
                f"has {len(talks)} sessions, but there are {len(ids)} ids and {len(dates)} dates"
            )
        sessions, used = [], dict.fromkeys(ids, 0)
        for index, (session_id, date, talk) in enumerate(zip(ids, dates, talks, strict=True)):
            key = place.at("haystack_session_ids", index).text(session_id)
            at = place.at("haystack_dates", index).time(date, longmemeval_time)
            used[key] += 1
            # A haystack may hold one session twice; the second gets a number so that turn ids stay unique.
            label = key if used[key] == 1 else f"{key}#{used[key]}"
            sessions.append(_role_session(place.at("haystack_sessions", index), talk, label, at))
        yield Parsed(
            conversation=Conversation(id=name, user_id=number, sessions=tuple(sessions)),
            record=number,
            path=str(path),
            raw=record,
        )


def _role_session(place: Place, talk: object, label: str, at: dt.datetime) -> Session:
    turns = []
    for index, item in enumerate(place.items(talk)):
        here = place.at(index)
        turn = here.mapping(item)
        role = here.at("role").role(required(here, turn, "role"))
        text = here.at("content").text(required(here, turn, "content"), blank=True)
        turns.append(Turn(id=f"{label}:{index + 1}", speaker=str(role), role=role, text=text, occurred_at=at))
    return Session(id=label, turns=tuple(turns), occurred_at=at)


def madial(path: Path) -> Iterator[Parsed]:
    """MADial dialogues, one object a line: `<Name>: "words"`. Turn ids are list positions, as `test-turn` counts."""
    for number, value in json_lines(path):
        place = Place(str(path), f"line {number}")
        record = place.mapping(value)
        listed = place.at("dialogue")
        turns = []
        for index, item in enumerate(listed.items(required(place, record, "dialogue"))):
            line = listed.at(index).text(item).strip()
            if line in _MADIAL_MARKS:
                continue
            speaker, text = madial_turn(line)
            role = Role.ASSISTANT if speaker == "Assistant" else Role.USER
            turns.append(Turn(id=str(index), speaker=speaker, role=role, text=text))
        yield Parsed(
            conversation=Conversation(
                id=f"{path.stem}-{number}",
                user_id=place.at("user-id").number(required(place, record, "user-id"), least=1),
                sessions=(Session(id="dialogue", turns=tuple(turns)),),
            ),
            record=number,
            path=str(path),
            raw=record,
        )


def madial_turn(line: str) -> tuple[str, str]:
    """(speaker, words). In the published files only the assistant's lines lack their name, so such a line is its."""
    found = _MADIAL_TURN.fullmatch(line)
    speaker, text = (found[1].strip(), found[2]) if found else ("Assistant", line.lstrip("<"))
    return speaker, text.strip().strip('"“”').strip()


def beam(path: Path) -> Iterator[Parsed]:
    """BEAM: a folder of folders with a chat.json, one chat.json, or a JSON/JSONL export with a `chat` field."""
    if path.is_dir():
        files = sorted(path.glob("**/chat.json"), key=lambda f: (str(f.parent.parent), _folder_number(f)))
        if not files:
            raise DataError(f"{path}: no chat.json below this folder; BEAM has chats/SIZE/NUMBER/chat.json")
        for number, file in enumerate(files, start=1):
            questions = file.parent / "probing_questions" / "probing_questions.json"
            raw = {"probing_questions": read_json(questions)} if questions.is_file() else {}
            # Every size counts its chats from 1: of a folder with several sizes, the size is part of the name.
            name = "-".join(file.parent.relative_to(path).parts) or path.name
            yield _beam_chat(file, number, name, read_json(file), raw)
    elif path.suffix == ".jsonl":
        for number, value in json_lines(path):
            yield _beam_record(path, number, value, f"line {number}")
    else:
        whole = read_json(path)
        if isinstance(whole, list) and whole and isinstance(whole[0], dict) and "chat" in whole[0]:
            for number, value in enumerate(whole, start=1):
                yield _beam_record(path, number, value, f"record {number}")
        elif isinstance(whole, dict) and "chat" in whole:
            yield _beam_record(path, 1, whole, "record 1")
        else:
            yield _beam_chat(path, 1, path.parent.name, whole, {})


def _folder_number(file: Path) -> int:
    return int(file.parent.name) if file.parent.name.isdigit() else 0


def _beam_record(path: Path, number: int, value: object, where: str) -> Parsed:
    place = Place(str(path), where)
    record = place.mapping(value)
    name = next((record[key] for key in ("conversation_id", "chat_id", "id") if record.get(key) is not None), number)
    return _beam_chat(path, number, str(name), required(place, record, "chat"), record)


def _beam_chat(path: Path, number: int, name: str, chat: object, raw: Mapping[str, Any]) -> Parsed:
    """A chat is a list of batches; a batch is a list of turns, of lists of turns, or {"turns": …, "time_anchor": …}."""
    place = Place(str(path), f"record {number} ({name})", "chat")
    sessions: list[Session] = []
    used: dict[str, int] = {}
    last: dt.datetime | None = None
    for index, batch in enumerate(place.items(chat)):
        here = place.at(index)
        anchor: object = None
        if isinstance(batch, dict):
            anchor, batch = batch.get("time_anchor"), required(here, batch, "turns")
            here = here.at("turns")
        flat: list[tuple[Place, Any]] = []
        for i, item in enumerate(here.items(batch)):
            nested = enumerate(item) if isinstance(item, list) else None
            flat.extend([(here.at(i, j), x) for j, x in nested] if nested else [(here.at(i), item)])
        turns: list[Turn] = []
        if anchor:
            last = here.time(anchor, beam_time)
        for spot, item in flat:
            turn = spot.mapping(item)
            role = spot.at("role").role(required(spot, turn, "role"))
            if turn.get("time_anchor"):
                last = spot.at("time_anchor").time(turn["time_anchor"], beam_time)
            raw_id = beam_id(spot.at("id"), required(spot, turn, "id"))
            used[raw_id] = used.get(raw_id, 0) + 1
            text = spot.at("content").text(required(spot, turn, "content"), blank=True)
            label = raw_id if used[raw_id] == 1 else f"{raw_id}#{used[raw_id]}"
            turns.append(Turn(id=label, speaker=str(role), role=role, text=text, occurred_at=last))
        session_at = turns[0].occurred_at if turns else last
        sessions.append(Session(id=f"batch_{index + 1}", turns=tuple(turns), occurred_at=session_at))
    return Parsed(
        conversation=Conversation(id=name, user_id=number, sessions=tuple(sessions)),
        record=number,
        path=str(path),
        raw=raw,
    )


def beam_id(place: Place, value: object) -> str:
    """A turn's id: a whole number, or a number as text. Anything else could not be matched with `source_chat_ids`."""
    return value.strip() if isinstance(value, str) and value.strip().isdecimal() else str(place.number(value))


def beam_questions(place: Place, raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """The probing questions by ability. The published table stores them as text of a Python literal or of JSON."""
    value = raw.get("probing_questions")
    place = place.at("probing_questions")
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError:
            try:
                value = ast.literal_eval(value)
            except (ValueError, SyntaxError) as error:
                raise place.bad(f"is text that is neither JSON nor a Python literal: {error}") from None
    return place.mapping(value)
