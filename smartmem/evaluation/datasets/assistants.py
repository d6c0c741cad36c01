"""Loaders of the benchmarks in which a person talks with an assistant: LongMemEval, MADial, BEAM."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from smartmem.chat.importers import Conversation, Session, Turn, parse
from smartmem.chat.importers.assistants import beam_id, beam_questions
from smartmem.chat.importers.fields import Place, iso_date, json_lines, longmemeval_time, required
from smartmem.errors import DataError
from smartmem.evaluation.datasets.loaders import Loaded, gold, only_file
from smartmem.evaluation.datasets.records import EvalQuery, Note, session_key, turn_key
from smartmem.types import Role

_BEAM_ANSWERS = ("answer", "ideal_response", "ideal_answer", "ideal_summary", "expected_compliance")


def longmemeval(files: Mapping[str, Path], limit: int | None) -> Loaded:
    """LongMemEval: a question searches its own haystack. Turns with `has_answer` are gold; `_abs` marks abstention."""
    out = Loaded([], [], [])
    for parsed in parse(only_file(files), "longmemeval"):
        if limit is not None and parsed.record > limit:
            break
        talk, raw = parsed.conversation, parsed.raw
        place = Place(parsed.path, f"record {parsed.record} ({talk.id})")
        out.conversations.append(talk)
        labels: dict[str, list[Session]] = {}
        marked: list[str] = []
        for index, (session, session_id, turns) in enumerate(
            zip(talk.sessions, raw["haystack_session_ids"], raw["haystack_sessions"], strict=True)
        ):
            labels.setdefault(session_id, []).append(session)
            marked += _marked(place.at("haystack_sessions", index), session, turns)
        answers: list[str] = []
        listed = place.at("answer_session_ids")
        for index, name in enumerate(listed.items(required(place, raw, "answer_session_ids"))):
            if name in labels:
                answers += [session_key(talk.id, session.id) for session in labels[name]]
            else:
                out.notes.append(
                    Note(
                        kind="refused",
                        record=talk.id,
                        field=f"answer_session_ids[{index}]",
                        value=str(name)[:80],
                        why="no such session in the haystack",
                    )
                )
        abstain = "_abs" in talk.id
        why = "abstention: the haystack has no answer" if abstain else "" if marked else "no turn has has_answer"
        out.queries.append(
            EvalQuery(
                id=talk.id,
                text=place.at("question").text(required(place, raw, "question")),
                conversation_id=talk.id,
                relevant=() if abstain else tuple(turn_key(talk.id, turn) for turn in marked),
                relevant_sessions=() if abstain else tuple(dict.fromkeys(answers)),
                category=place.at("question_type").text(required(place, raw, "question_type")),
                answer=str(required(place, raw, "answer")),
                at=place.at("question_date").time(required(place, raw, "question_date"), longmemeval_time),
                no_answer=abstain,
                why_ineligible=why,
            )
        )
    return out


def _marked(place: Place, session: Session, turns: Sequence[Mapping[str, Any]]) -> list[str]:
    """The ids of the turns that hold the answer. A label that is neither true nor false would be lost in silence."""
    found = []
    for index, (turn, raw) in enumerate(zip(session.turns, turns, strict=True)):
        label = raw.get("has_answer")
        if label is not None and not isinstance(label, bool):
            raise place.at(index, "has_answer").bad(f"is {label!r}, expected true or false")
        if label:
            found.append(turn.id)
    return found


def madial(files: Mapping[str, Path], limit: int | None) -> Loaded:
    """MADial: which of a child's memories should come to mind at the first `test-turn`?

    As in the authors' code (Embedding.py, embedding_top_20_new.py of hejunqing/MADial-Bench): the query is
    what was said before the first test-turn, the store holds that child's memories only, and a memory is read with its
    scene and emotion. Their nDCG divides by the ideal of what was retrieved, ours by the ideal of all that is relevant,
    so compare recall. A suite with `restrict = false` searches both children's memories as one pool. Statistics
    resample dialogues.
    """
    memories_path = _one(files, "memory")
    dialogues_path = _one(files, "dialogue")
    dialogues = list(parse(dialogues_path, "madial"))
    children = {
        turn.speaker: talk.user_id
        for talk in (parsed.conversation for parsed in dialogues)
        for turn in talk.turns()
        if turn.role is Role.USER
    }
    pools = {pool.user_id: pool for pool in _memories(memories_path, children)}
    known = {owner: {turn.id for turn in pool.turns()} for owner, pool in pools.items()}
    out = Loaded(list(pools.values()), [], [])
    for parsed in dialogues:
        if limit is not None and parsed.record > limit:
            break
        place = Place(parsed.path, f"line {parsed.record}")
        lines = len(parsed.raw["dialogue"])
        tests = [
            place.at("test-turn", i).number(v, least=0)
            for i, v in enumerate(place.at("test-turn").items(required(place, parsed.raw, "test-turn")))
        ]
        if not tests or max(tests) >= lines:
            raise place.at("test-turn").bad(f"is {tests}, expected positions below {lines}")
        said = [turn for turn in parsed.conversation.turns() if int(turn.id) < min(tests)]
        owner = parsed.conversation.user_id
        if owner not in pools:
            raise place.at("user-id").bad(f"is {owner}, but no memory is of this child")
        relevant: dict[str, None] = {}
        for index, value in enumerate(place.at("relevant-id").items(required(place, parsed.raw, "relevant-id"))):
            if str(value) in known[owner]:
                relevant[str(value)] = None
            else:
                note = f"no memory {value} of child {owner}"
                out.notes.append(
                    Note(
                        kind="refused",
                        record=parsed.conversation.id,
                        field=f"relevant-id[{index}]",
                        value=str(value)[:80],
                        why=note,
                    )
                )
        if not said:
            raise place.at("test-turn").bad(f"is {tests}: nothing is said before it")
        target = gold(pools[owner], relevant)
        out.queries.append(
            EvalQuery(
                id=parsed.conversation.id,
                text="\n".join(turn.text for turn in said),
                conversation_id=pools[owner].id,
                cluster=parsed.conversation.id,
                why_ineligible="" if relevant else "no relevant memory",
                relevant=target.turns,
                relevant_sessions=target.sessions,
            )
        )
    return out


def _one(files: Mapping[str, Path], part: str) -> Path:
    """The dialogue or the memory file: among those given, beside the one given, or in the folder given."""
    for path in files.values():
        if path.is_dir():
            found = sorted(path.glob(f"*{part}*.json*"))
            if len(found) == 1:
                return found[0]
            raise DataError(f"{path}: has {len(found)} files named *{part}*.json; give the dialogue file itself")
        if part in path.name:
            return path
    for path in files.values():
        for other in ("dialogue", "memory"):
            beside = path.with_name(path.name.replace(other, part))
            if beside.exists() and beside != path:
                return beside
    raise DataError(f"MADial needs its {part} file beside {only_file(files)}")


def _memories(path: Path, children: Mapping[str, int]) -> list[Conversation]:
    """One conversation a child. `children`: user id by name, for the English file, where a memory has no `user-id`:
    there its words name the child."""
    turns: dict[int, dict[str, Turn]] = {}
    for number, value in json_lines(path):
        place = Place(str(path), f"line {number}")
        for name, item in place.mapping(value).items():
            here = place.at(name)
            memory = here.mapping(item)
            if any(name in held for held in turns.values()):
                raise here.bad("is already used as an id above")
            event = here.at("event").text(required(here, memory, "event"))
            about = [str(memory[key]) for key in ("scene", "emotion") if memory.get(key)]
            turns.setdefault(_owner(here, memory, event, children), {})[name] = Turn(
                id=name,
                speaker="",
                role=Role.USER,
                text=f"{event} ({', '.join(about)})" if about else event,
                occurred_at=here.at("time").time(required(here, memory, "time"), iso_date),
            )
    return [
        # A session each: memories are no turns of a dialogue, and the file's order says nothing.
        Conversation(
            id=f"memories-{owner}",
            user_id=owner,
            sessions=tuple(Session(id=name, turns=(turn,)) for name, turn in held.items()),
        )
        for owner, held in sorted(turns.items())
    ]


def _owner(here: Place, memory: Mapping[str, Any], event: str, children: Mapping[str, int]) -> int:
    if "user-id" in memory:
        return here.at("user-id").number(memory["user-id"], least=1)
    named = {owner for name, owner in children.items() if name in event}
    if len(named) != 1:
        raise here.at("event").bad(f"names {len(named)} of the children {sorted(children)}; give the memory a user-id")
    return named.pop()


def beam(files: Mapping[str, Path], limit: int | None) -> Loaded:
    """BEAM: probing questions by ability; `source_chat_ids` (lists, or lists by side of a contradiction) are gold."""
    out = Loaded([], [], [])
    for parsed in parse(only_file(files), "beam"):
        if limit is not None and parsed.record > limit:
            break
        talk = parsed.conversation
        out.conversations.append(talk)
        place = Place(parsed.path, f"record {parsed.record} ({talk.id})")
        times = Counter(turn.id.split("#")[0] for turn in talk.turns())
        for ability, questions in beam_questions(place, parsed.raw).items():
            listed = place.at("probing_questions", ability)
            for index, value in enumerate(listed.items(questions)):
                here = listed.at(index)
                record = here.mapping(value)
                name = f"beam_{talk.id}_{ability}_{index + 1}"
                turns: dict[str, None] = {}
                for label in _flat(here.at("source_chat_ids"), record.get("source_chat_ids")):
                    if times[label] == 1:
                        turns[label] = None
                        continue
                    why = "no turn has this id" if not times[label] else f"{times[label]} turns have this id"
                    out.notes.append(Note(kind="refused", record=name, field="source_chat_ids", value=label, why=why))
                abstain = ability == "abstention"
                # Each ability has its own name for what a good answer is.
                answer = next((record[key] for key in _BEAM_ANSWERS if record.get(key) is not None), None)
                target = gold(talk, () if abstain else turns)
                out.queries.append(
                    EvalQuery(
                        id=name,
                        text=here.at("question").text(required(here, record, "question")),
                        conversation_id=talk.id,
                        category=str(ability),
                        answer=None if answer is None else str(answer),
                        no_answer=abstain,
                        why_ineligible="abstention" if abstain else "" if turns else "no usable source_chat_ids",
                        relevant=target.turns,
                        relevant_sessions=target.sessions,
                    )
                )
    return out


def _flat(place: Place, value: object) -> list[str]:
    if value is None:
        return []
    if isinstance(value, dict):
        return [label for name, part in value.items() for label in _flat(place.at(str(name)), part)]
    if isinstance(value, list):
        return [label for index, part in enumerate(value) for label in _flat(place.at(index), part)]
    return [beam_id(place, value)]
