"""Conversation files become messages. Formats: jsonl (our own), locomo, realtalk, longmemeval, madial, beam, tiny.

for message in read_messages("locomo10.json", "locomo"): ...

A file is read to its end and checked before the first message is handed out, so that a broken file writes nothing.
Image captions become part of a turn's text in brackets. Where a file names no time zone, its times are read as UTC.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from smartmem.chat.importers import assistants, locomo
from smartmem.chat.importers.records import (
    Conversation,
    FileSummary,
    ImportedMessage,
    Parsed,
    Session,
    Turn,
)
from smartmem.errors import BadRecord, ConfigError, DataError

__all__ = [
    "FORMATS",
    "Conversation",
    "FileSummary",
    "ImportedMessage",
    "Parsed",
    "Session",
    "Turn",
    "parse",
    "read_messages",
    "scan",
]

_MAX_ID = 191  # the width of conversations.id and of client_message_id in the tables

_PARSERS: dict[str, Callable[[Path], Iterator[Parsed]]] = {
    "jsonl": assistants.jsonl,
    "locomo": locomo.locomo,
    "realtalk": locomo.realtalk,
    "longmemeval": assistants.longmemeval,
    "madial": assistants.madial,
    "beam": assistants.beam,
    "tiny": assistants.tiny,
}
FORMATS = tuple(_PARSERS)


def parse(path: str | Path, format: str) -> Iterator[Parsed]:
    """The conversations of a file, one at a time, with their raw records. Raises `DataError`/`BadRecord` on the way."""
    parser = _PARSERS.get(format)
    if parser is None:
        raise ConfigError(f"unknown format {format!r}; known are: {', '.join(FORMATS)}")
    file = Path(path)
    if not file.exists():
        raise DataError(f"{file}: no such file")
    return parser(file)


def scan(path: str | Path, format: str) -> FileSummary:
    """Read all of the file and count what it holds; any fault raises before a message has been handed out."""
    conversations = sessions = messages = 0
    owners: dict[str, int] = {}
    for parsed in parse(path, format):
        talk = parsed.conversation
        if owners.setdefault(talk.id, parsed.record) != parsed.record:
            raise BadRecord(
                f"{parsed.path}: record {parsed.record}: conversation id {talk.id!r} "
                f"is already used in record {owners[talk.id]}"
            )
        for name in (talk.id, *(turn.id for turn in talk.turns())):
            if len(name) > _MAX_ID:
                raise BadRecord(
                    f"{parsed.path}: record {parsed.record}: id {name[:40]!r}… is over {_MAX_ID} characters"
                )
        conversations += 1
        sessions += len(talk.sessions)
        messages += sum(len(session.turns) for session in talk.sessions)
    if not messages:
        raise DataError(f"{path}: holds no message in the format {format!r}")
    return FileSummary(path=str(path), format=format, conversations=conversations, sessions=sessions, messages=messages)


def read_messages(path: str | Path, format: str, *, scanned: bool = False) -> Iterator[ImportedMessage]:
    """All messages in order. The file is scanned first, unless the caller has just done it (`scanned=True`)."""
    if not scanned:
        scan(path, format)
    return (
        ImportedMessage(
            conversation_id=parsed.conversation.id,
            user_id=parsed.conversation.user_id,
            role=turn.role,
            speaker=turn.speaker,
            content=turn.text,
            occurred_at=turn.occurred_at,
            client_message_id=turn.id,
            session_id=session.id,
        )
        for parsed in parse(path, format)
        for session in parsed.conversation.sessions
        for turn in session.turns
    )
