"""Answers by the SHA-256 of the whole request, in one SQLite file that processes may share."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
from dataclasses import asdict
from pathlib import Path

from smartmem.errors import StoreUnavailable
from smartmem.llm.model import ChatAnswer, ChatModel, ChatRequest, Usage
from smartmem.text import sha256

_BUSY_S = 10.0


class CachedChat:
    """Asks `inner` once for each different request. Only complete answers are kept; failures never are."""

    def __init__(self, inner: ChatModel, path: str | Path) -> None:
        self._inner = inner
        self._path = Path(path)
        self._lock = threading.Lock()
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(self._path, timeout=_BUSY_S, check_same_thread=False, isolation_level=None)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, answer TEXT NOT NULL)")
        except (OSError, sqlite3.Error) as error:
            raise StoreUnavailable(f"cache of model answers {self._path}: {error}") from error

    @property
    def name(self) -> str:
        return self._inner.name

    def complete(self, request: ChatRequest) -> ChatAnswer:
        key = sha256(json.dumps([self._inner.name, asdict(request)], sort_keys=True, ensure_ascii=False, default=dict))
        known = self._read(key)
        if known is not None:
            return known
        answer = self._inner.complete(request)
        if answer.complete:
            self._write(key, answer)
        return answer

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def _read(self, key: str) -> ChatAnswer | None:
        with self._lock:
            row = self._db.execute("SELECT answer FROM answers WHERE key = ?", (key,)).fetchone()
        if row is None:
            return None
        kept = json.loads(row[0])
        return ChatAnswer(text=kept["text"], model=kept["model"], usage=Usage(cached=1))

    def _write(self, key: str, answer: ChatAnswer) -> None:
        kept = json.dumps({"text": answer.text, "model": answer.model}, ensure_ascii=False)
        # A cache that cannot be written costs a call more next time, and nothing else.
        with self._lock, contextlib.suppress(sqlite3.Error):
            self._db.execute("INSERT OR IGNORE INTO answers VALUES (?, ?)", (key, kept))
