"""Write chat messages, their conversations' counters and the events that ask for extraction, set-based.

The conversation's row is locked before anything of it is read or written. So its messages get consecutive numbers,
a resent message is recognised, and its events are written in the order of its messages.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy.engine import Connection
from uuid_utils import uuid7

from smartmem.chat.message import Appended, NewMessage, checked_message
from smartmem.db.dialects import MYSQL
from smartmem.db.engine import Database
from smartmem.db.hot import fetch, insert_rows, marks, proposed, stamp
from smartmem.db.tables import chat_messages, conversations, memory_user_settings
from smartmem.errors import BadRecord
from smartmem.outbox.events import ExtractRequested, extract_key
from smartmem.outbox.publish import publish_many
from smartmem.text import cut, fold_space
from smartmem.types import Role

TALKS = 100  # conversations of one look-up: SQLite refuses an expression of more than 1,000 terms
TITLE_CHARS = 60

# PostgreSQL locks no rows of an outer join's far side, and wants to be told so.
_LOCKS = {"sqlite": "", "postgresql": " FOR UPDATE OF c"}


class ForeignConversation(BadRecord):
    """A message names a conversation that belongs to another user."""


@dataclass(slots=True)
class _Conversation:
    """A locked conversation. `silent`: its user has switched memory off; `last_at`: the latest of the messages now
    added, as a stamp."""

    user_id: int
    count: int
    silent: bool
    last_at: str = ""


def append(conn: Connection, wanted: Sequence[NewMessage]) -> list[Appended | BadRecord]:
    """Write messages in their order, in the caller's transaction; one answer each, as `append_messages` gives it."""
    db = Database.of(conn)
    now = db.now()
    outcomes: list[Appended | BadRecord | None] = [None] * len(wanted)
    checked: list[tuple[int, NewMessage]] = []
    for place, message in enumerate(wanted):
        fit = checked_message(message)
        if isinstance(fit, BadRecord):
            outcomes[place] = fit
        else:
            checked.append((place, fit))
    if not checked:
        return [outcome for outcome in outcomes if outcome is not None]
    talks = _locked_conversations(conn, db, now, [message for _, message in checked])
    known = _known_messages(conn, [message for _, message in checked])
    rows: list[tuple[Any, ...]] = []
    made: list[tuple[int, str, int, ExtractRequested | None]] = []
    for place, message in checked:
        talk = talks[message.conversation_id]
        name = (message.conversation_id, message.client_message_id)
        if talk.user_id != message.user_id:
            outcomes[place] = ForeignConversation(
                f"conversation {message.conversation_id!r} belongs to another user than {message.user_id}; "
                "give each user's conversations ids of their own"
            )
        elif message.client_message_id is not None and name in known:
            id_, seq = known[name]
            outcomes[place] = Appended(message_id=id_, seq=seq, event_id=None, created=False)
        else:
            id_ = str(uuid7())
            # One trace from the message to the vector row: the caller's, else the message's own id.
            trace_id = message.trace_id or id_
            rows.append(_row(id_, trace_id, message, talk))
            if message.client_message_id is not None:
                known[name] = (id_, talk.count)
            asks = message.role == Role.USER and not talk.silent and message.content.strip()
            made.append((place, id_, talk.count, _question(id_, trace_id, message) if asks else None))
    if rows:
        written_at = stamp(now)
        insert_rows(conn, chat_messages, {"created_at": written_at}, _COLUMNS, rows)
        _write_counters(conn, written_at, talks)
    event_ids = iter(publish_many(conn, [event for *_, event in made if event is not None]))
    for place, id_, seq, event in made:
        event_id = None if event is None else next(event_ids)
        outcomes[place] = Appended(message_id=id_, seq=seq, event_id=event_id, created=True)
    return [outcome for outcome in outcomes if outcome is not None]


def _locked_conversations(
    conn: Connection, db: Database, now: dt.datetime, wanted: Sequence[NewMessage]
) -> dict[str, _Conversation]:
    first: dict[str, NewMessage] = {}
    for message in wanted:
        first.setdefault(message.conversation_id, message)
    found = _lock(conn, db, sorted(first))
    missing = [first[id_] for id_ in sorted(first) if id_ not in found]
    if missing:
        # Insert-or-ignore, then read again: somebody else may create the same conversation at this moment, and there
        # was no row yet that could have been locked.
        conn.execute(
            db.insert_ignore(conversations),
            [
                {
                    "id": message.conversation_id,
                    "user_id": message.user_id,
                    "assistant_id": message.assistant_id,
                    "title": cut(fold_space(message.content[: 4 * TITLE_CHARS]), TITLE_CHARS)[0],
                    "message_count": 0,
                    "last_message_at": None,
                    "created_at": now,
                    "updated_at": now,
                }
                for message in missing
            ],
        )
        found |= _lock(conn, db, [message.conversation_id for message in missing])
    return found


def _lock(conn: Connection, db: Database, ids: Sequence[str]) -> dict[str, _Conversation]:
    # In the order of their ids, so that two bulk imports cannot wait for each other in a circle. The settings by a
    # join: as a subquery (`SELECT …, (SELECT …) … FOR UPDATE`) they ended MariaDB 10.11.19 with a segmentation fault
    # once while eight connections ran it, and a statement of their own is one round trip of six.
    found = fetch(
        conn,
        f"SELECT c.id,c.user_id,c.message_count,s.user_id AS silent FROM {conversations.name} c"  # noqa: S608
        f" LEFT JOIN {memory_user_settings.name} s ON s.user_id=c.user_id AND NOT s.memory_enabled"
        f" WHERE c.id IN ({marks(conn, ids)}) ORDER BY c.id{_LOCKS.get(db.dialect, ' FOR UPDATE')}",
        ids,
    )
    return {
        row.id: _Conversation(user_id=row.user_id, count=row.message_count, silent=row.silent is not None)
        for row in found
    }


def _known_messages(conn: Connection, wanted: Sequence[NewMessage]) -> dict[tuple[str, str | None], tuple[str, int]]:
    """What is stored already of `wanted`. Asked conversation by conversation: for `(conversation_id, client_message_id)
    IN (VALUES …)` SQLite reads the whole table."""
    names: dict[str, list[str]] = {}
    for message in wanted:
        if message.client_message_id is not None:
            names.setdefault(message.conversation_id, []).append(message.client_message_id)
    found: dict[tuple[str, str | None], tuple[str, int]] = {}
    one = marks(conn, [None])
    talks = sorted(names)
    for start in range(0, len(talks), TALKS):
        params: list[str] = []
        either = []
        for talk in talks[start : start + TALKS]:
            params += [talk, *names[talk]]
            either.append(f"conversation_id={one} AND client_message_id IN ({marks(conn, names[talk])})")
        rows = fetch(
            conn,
            f"SELECT conversation_id,client_message_id,id,seq FROM {chat_messages.name}"  # noqa: S608
            f" WHERE {' OR '.join(either)}",
            params,
        )
        found |= {(row.conversation_id, row.client_message_id): (row.id, row.seq) for row in rows}
    return found


_COLUMNS = (
    "id",
    "conversation_id",
    "user_id",
    "seq",
    "role",
    "speaker",
    "content",
    "occurred_at",
    "client_message_id",
    "run_id",
    "trace_id",
)


def _row(id_: str, trace_id: str, message: NewMessage, talk: _Conversation) -> tuple[Any, ...]:
    occurred_at = stamp(message.occurred_at)
    talk.count += 1
    talk.last_at = max(talk.last_at, occurred_at)
    return (
        id_,
        message.conversation_id,
        message.user_id,
        talk.count,
        str(message.role),
        message.speaker,
        message.content,
        occurred_at,
        message.client_message_id,
        message.run_id,
        trace_id,
    )


def _question(id_: str, trace_id: str, message: NewMessage) -> ExtractRequested:
    return ExtractRequested(
        user_id=message.user_id,
        conversation_id=message.conversation_id,
        assistant_id=message.assistant_id,
        run_id=message.run_id,
        source_message_id=id_,
        source_role=str(message.role),
        source_text=message.content,
        occurred_at=message.occurred_at,
        trace_id=trace_id,
        idempotency_key=extract_key(message.user_id, message.conversation_id, id_, message.content),
    )


def _write_counters(conn: Connection, now: str, talks: dict[str, _Conversation]) -> None:
    """All counters in one statement: an upsert over rows that exist and are locked."""
    insert_rows(
        conn,
        conversations,
        {"user_id": 0, "title": "", "created_at": now, "updated_at": now},  # the row exists: only updated_at is used
        ("id", "message_count", "last_message_at"),
        [(id_, talk.count, talk.last_at) for id_, talk in talks.items() if talk.last_at],
        conflict=_counted(conn.dialect.name),
    )


@cache
def _counted(dialect: str) -> str:
    count, last, updated = (proposed(dialect, name) for name in ("message_count", "last_message_at", "updated_at"))
    greatest = "GREATEST" if dialect != "sqlite" else "MAX"
    update = " ON DUPLICATE KEY UPDATE" if dialect in MYSQL else " ON CONFLICT (id) DO UPDATE SET"
    latest = f"{greatest}(COALESCE({conversations.name}.last_message_at,{last}),{last})"
    return f"{update} message_count={count},last_message_at={latest},updated_at={updated}"
