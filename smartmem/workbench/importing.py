"""A conversation file in: every message through `append_messages`, in batches."""

from __future__ import annotations

import time
from pathlib import Path

from smartmem.chat import history
from smartmem.chat.importers import read_messages, scan
from smartmem.db.engine import Database
from smartmem.progress import bar
from smartmem.workbench.reports import ImportReport

BATCH = 500


def import_file(db: Database, file: str | Path, format: str) -> ImportReport:
    """Append every message of a file; see `Workbench.import_file`."""
    started = time.perf_counter()
    summary = scan(file, format)
    added = present = events = 0
    now = db.now()
    batch: list[history.NewMessage] = []
    refused: list[str] = []
    with bar("importing", summary.messages, "msg") as shown:

        def write() -> None:
            nonlocal added, present, events
            for message, done in zip(batch, history.append_messages(db, batch), strict=True):
                if isinstance(done, history.Appended):
                    added += done.created
                    present += not done.created
                    events += done.event_id is not None
                else:
                    refused.append(f"{message.conversation_id}/{message.client_message_id}: {done}")
            shown.update(len(batch))
            batch.clear()

        for message in read_messages(file, format, scanned=True):
            batch.append(
                history.NewMessage(
                    user_id=message.user_id,
                    conversation_id=message.conversation_id,
                    role=message.role,
                    content=message.content,
                    occurred_at=message.occurred_at or now,
                    client_message_id=message.client_message_id,
                    speaker=message.speaker,
                )
            )
            if len(batch) >= BATCH:
                write()
        write()
    return ImportReport(
        file=str(file),
        format=format,
        read=summary.messages,
        conversations=summary.conversations,
        added=added,
        present=present,
        events=events,
        refused=tuple(refused),
        seconds=time.perf_counter() - started,
    )
