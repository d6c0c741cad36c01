"""Loaders of LoCoMo, REALTALK, smartmem-tiny and our own JSONL. Each turns its files into conversations and queries."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from smartmem.chat.importers import Conversation, Parsed, parse
from smartmem.chat.importers.fields import Place, json_lines, read_json, required
from smartmem.clock import parse_time
from smartmem.errors import DataError
from smartmem.evaluation.datasets.evidence import repair_dia_ids
from smartmem.evaluation.datasets.records import EvalQuery, Note, SpanRef, session_key, turn_key
from smartmem.text import language

_LOCOMO_CATEGORIES = {1: "multi_hop", 2: "temporal", 3: "open_domain", 4: "single_hop", 5: "adversarial"}
_REALTALK_CATEGORIES = {1: "multi_hop", 2: "temporal", 3: "commonsense"}


class Loaded(NamedTuple):
    """What a loader returns; the registry adds name, hash and licence."""

    conversations: list[Conversation]
    queries: list[EvalQuery]
    notes: list[Note]


Loader = Callable[[Mapping[str, Path], int | None], Loaded]


def sessions_of(conversation: Conversation) -> dict[str, str]:
    """turn id → session key within one conversation."""
    return {turn.id: session_key(conversation.id, s.id) for s in conversation.sessions for turn in s.turns}


class Gold(NamedTuple):
    """Turn keys and the keys of the sessions that they are in."""

    turns: tuple[str, ...]
    sessions: tuple[str, ...]


def gold(conversation: Conversation, turn_ids: Iterable[str]) -> Gold:
    """The gold of a query from the local ids of its turns, each once."""
    homes = sessions_of(conversation)
    unique = tuple(dict.fromkeys(turn_ids))
    return Gold(
        tuple(turn_key(conversation.id, turn) for turn in unique),
        tuple(dict.fromkeys(homes[turn] for turn in unique)),
    )


def only_file(files: Mapping[str, Path]) -> Path:
    """The one path of a benchmark that has one file (or the folder that was given)."""
    return next(iter(files.values()))


def locomo(files: Mapping[str, Path], limit: int | None) -> Loaded:
    """LoCoMo: ids `locomo_{conversation}_qa{index}`, both counted from 0 as in the audit; all five categories."""
    out = Loaded([], [], [])
    for parsed in parse(only_file(files), "locomo"):
        if limit is not None and parsed.record > limit:
            break
        _add_questions(out, parsed, f"locomo_{parsed.record - 1}", _LOCOMO_CATEGORIES)
    return out


def realtalk(files: Mapping[str, Path], limit: int | None) -> Loaded:
    """REALTALK: as LoCoMo, one file a chat."""
    out = Loaded([], [], [])
    for path in files.values():
        for parsed in parse(path, "realtalk"):
            if limit is not None and len(out.conversations) >= limit:
                return out
            # Files given one by one each start at record 1; the chat's name is what tells them apart.
            chat = replace(parsed.conversation, user_id=len(out.conversations) + 1)
            _add_questions(
                out, replace(parsed, conversation=chat), f"realtalk_{chat.id}", _REALTALK_CATEGORIES, need_qa=False
            )
    return out


def _add_questions(
    out: Loaded, parsed: Parsed, prefix: str, categories: Mapping[int, str], need_qa: bool = True
) -> None:
    talk = parsed.conversation
    out.conversations.append(talk)
    known = {turn.id for turn in talk.turns()}
    place = Place(parsed.path, f"record {parsed.record} ({talk.id})")
    listed = place.at("qa")
    raw = required(place, parsed.raw, "qa") if need_qa else parsed.raw.get("qa", [])
    for index, value in enumerate(listed.items(raw)):
        here = listed.at(index)
        record = here.mapping(value)
        number = _category(here.at("category"), required(here, record, "category"))
        if number not in categories:
            raise here.at("category").bad(f"is {number}, expected one of {', '.join(map(str, categories))}")
        name = f"{prefix}_qa{index}"
        turns, notes = repair_dia_ids(here.at("evidence").items(record.get("evidence") or []), known, name)
        out.notes.extend(notes)
        answer = record.get("answer", record.get("adversarial_answer"))
        target = gold(talk, turns)
        why = "" if turns else "no usable evidence" if record.get("evidence") else "no evidence"
        out.queries.append(
            EvalQuery(
                id=name,
                text=here.at("question").text(required(here, record, "question")),
                conversation_id=talk.id,
                category=categories[number],
                answer=None if answer is None else str(answer),
                why_ineligible=why,
                relevant=target.turns,
                relevant_sessions=target.sessions,
            )
        )


def _category(place: Place, value: object) -> int:
    """A number, also where an export has written it as text."""
    return int(value) if isinstance(value, str) and value.strip().isdecimal() else place.number(value)


def locomo_corrected(files: Mapping[str, Path], limit: int | None) -> Loaded:
    """LoCoMo with the evidence and answers of an audit laid over it; every laid-over question has a note."""
    try:
        base, audit = files["locomo10.json"], files["locomo10-audit.json"]
    except KeyError:
        raise DataError(
            "locomo-corrected needs two files: give the folder that holds locomo10.json and locomo10-audit.json"
        ) from None
    plain = locomo({"locomo10.json": base}, limit)
    queries = {query.id: query for query in plain.queries}
    talks = {talk.id: talk for talk in plain.conversations}
    notes: dict[str, list[Note]] = {}
    for note in plain.notes:
        notes.setdefault(note.record, []).append(note)
    for index, value in enumerate(Place(str(audit), "file").items(read_json(audit)), start=1):
        place = Place(str(audit), f"record {index}")
        record = place.mapping(value)
        name = place.at("question_id").text(required(place, record, "question_id"))
        old = queries.get(name)
        if old is None:
            if limit is not None:
                continue
            raise place.at("question_id").bad(f"is {name!r}, which {base.name} does not have")
        if required(place, record, "question") != old.text:
            raise place.at("question").bad(f"differs from question {name} of {base.name}: other versions of the files?")
        talk = talks[old.conversation_id]
        evidence = place.at("correct_evidence").items(required(place, record, "correct_evidence"))
        turns, found = repair_dia_ids(evidence, {turn.id for turn in talk.turns()}, name)
        # The audit's evidence replaces the old one, and with it whatever had to be said about the old one.
        kind = str(record.get("error_type", "audit"))
        notes[name] = [*found, Note(kind="corrected", record=name, field="evidence", value=kind, why="audit overlay")]
        target = gold(talk, turns)
        queries[name] = replace(
            old,
            answer=str(record.get("correct_answer", old.answer)),
            why_ineligible="" if turns else "the audit found no evidence",
            relevant=target.turns,
            relevant_sessions=target.sessions,
        )
    return Loaded(plain.conversations, list(queries.values()), [note for group in notes.values() for note in group])


def tiny(files: Mapping[str, Path], limit: int | None) -> Loaded:
    """smartmem-tiny: all dialogues of one user are one conversation, for a user's questions range over all of them."""
    folder = only_file(files)
    folder = folder if folder.is_dir() else folder.parent
    by_user: dict[int, list[Parsed]] = {}
    for parsed in parse(folder, "tiny"):
        by_user.setdefault(parsed.conversation.user_id, []).append(parsed)
    users = list(by_user)[:limit]
    talks = {
        user: Conversation(
            id=f"user-{user}",
            user_id=user,
            sessions=tuple(session for parsed in by_user[user] for session in parsed.conversation.sessions),
        )
        for user in users
    }
    texts = {user: {turn.id: turn.text for turn in talk.turns()} for user, talk in talks.items()}
    out = Loaded(list(talks.values()), [], [])
    path = folder / "questions.jsonl"
    for number, value in json_lines(path):
        place = Place(str(path), f"line {number}")
        record = place.mapping(value)
        user = place.at("user_id").number(required(place, record, "user_id"))
        if user not in talks:
            if limit is not None:
                continue
            raise place.at("user_id").bad(f"is {user}, who has no dialogue")
        out.queries.append(_tiny_query(place, record, talks[user], texts[user]))
    return out


def _tiny_query(place: Place, record: Mapping[str, Any], talk: Conversation, texts: Mapping[str, str]) -> EvalQuery:
    turns: list[str] = []
    for index, name in enumerate(place.at("evidence").items(required(place, record, "evidence"))):
        if name not in texts:
            raise place.at("evidence", index).bad(f"is {name!r}, expected a turn of user {talk.user_id}")
        turns.append(name)
    spans = []
    for index, value in enumerate(place.at("spans").items(record.get("spans", []))):
        here = place.at("spans", index)
        span = here.mapping(value)
        turn = here.at("turn_id").text(required(here, span, "turn_id"))
        start = here.at("start").number(required(here, span, "start"), least=0)
        end = here.at("end").number(required(here, span, "end"), least=start + 1)
        if turn not in texts or end > len(texts[turn]):
            raise here.bad(f"[{start}, {end}) is not inside turn {turn!r}")
        spans.append(SpanRef(turn=turn_key(talk.id, turn), start=start, end=end))
    category = place.at("category").text(required(place, record, "category"))
    text = place.at("question").text(required(place, record, "question"))
    target = gold(talk, turns)
    return EvalQuery(
        id=place.at("question_id").text(required(place, record, "question_id")),
        text=text,
        conversation_id=talk.id,
        category=category,
        answer=record.get("answer"),
        spans=tuple(spans),
        language=str(record.get("language") or language(text)),
        no_answer=category == "no_answer",
        why_ineligible="" if turns else "no answer in the dialogues",
        relevant=target.turns,
        relevant_sessions=target.sessions,
    )


def jsonl(files: Mapping[str, Path], limit: int | None) -> Loaded:
    """Our own format: message lines and query lines of one file.

    {"kind": "query", "query_id": "q1", "conversation_id": "c1", "text": "…", "relevant": ["client_message_id", …]}
    and, optional, "category", "answer", "at" (ISO 8601 with a zone).
    """
    path = only_file(files)
    out = Loaded([parsed.conversation for parsed in parse(path, "jsonl")][:limit], [], [])
    talks = {talk.id: talk for talk in out.conversations}
    seen: set[str] = set()
    for number, value in json_lines(path):
        place = Place(str(path), f"line {number}")
        record = place.mapping(value)
        kind = record.get("kind", "message")
        if kind == "message":
            continue
        if kind != "query":
            raise place.at("kind").bad(f"is {kind!r}, expected 'message' or 'query'")
        allowed = {"kind", "query_id", "conversation_id", "text", "relevant", "category", "answer", "at"}
        for unknown in sorted(set(record) - allowed):
            raise place.at(unknown).bad(f"is unknown; known are: {', '.join(sorted(allowed))}")
        name = place.at("query_id").text(required(place, record, "query_id"))
        if name in seen:
            raise place.at("query_id").bad(f"is {name!r}, which another query has")
        seen.add(name)
        talk = talks.get(place.at("conversation_id").text(required(place, record, "conversation_id")))
        if talk is None:
            if limit is not None:
                continue
            raise place.at("conversation_id").bad(f"is {record['conversation_id']!r}, which has no message")
        known = {turn.id for turn in talk.turns()}
        for index, turn in enumerate(place.at("relevant").items(required(place, record, "relevant"))):
            if turn not in known:
                raise place.at("relevant", index).bad(f"is {turn!r}, which no message of {talk.id!r} has as its id")
        target = gold(talk, record["relevant"])
        at = record.get("at")
        out.queries.append(
            EvalQuery(
                id=name,
                text=place.at("text").text(required(place, record, "text")),
                conversation_id=talk.id,
                category=place.at("category").text(record.get("category") or "all"),
                answer=record.get("answer"),
                at=None if at is None else place.at("at").time(at, parse_time),
                no_answer=not target.turns,
                why_ineligible="" if target.turns else "no relevant message is named",
                relevant=target.turns,
                relevant_sessions=target.sessions,
            )
        )
    return out
