"""The stage cache: what each stage made, keyed by the content of what went into it. One SQLite file a folder.

A key is a SHA-256 over everything that could change the value: texts, specifications, the model's fingerprint, the code
that ran. So nothing has to be invalidated, two runs may share a folder, and a killed run continues where it stopped.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import sqlite3
import tempfile
import time
import zlib
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

import smartmem
from smartmem.errors import StoreUnavailable
from smartmem.evaluation.datasets.registry import caches

_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS stage (key BLOB PRIMARY KEY, name TEXT NOT NULL, value BLOB NOT NULL) WITHOUT ROWID"
)
_LOOKUP = 500
_COMMIT_S = 0.5


def key_of(*parts: object) -> bytes:
    """A key over plain values; dictionaries are put in order first."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


@cache
def code_hash(*folders: str) -> str:
    """Hash of the Python sources below `smartmem/<folder>` or of `smartmem/<file>`: new code, new keys."""
    root = Path(smartmem.__file__).parent
    digest = hashlib.sha256()
    for folder in folders:
        place = root / folder
        for file in [place] if place.is_file() else sorted(place.rglob("*.py")):
            digest.update(file.relative_to(root).as_posix().encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()


def default_folder() -> Path:
    """data/cache/eval of the project, or `eval` in the user's cache folder."""
    return caches() / "eval"


def pack(rankings: Mapping[str, Sequence[tuple[str, float]]]) -> bytes:
    """Rankings by query id as one compressed block: names once, places and scores as arrays."""
    names = sorted({name for ranking in rankings.values() for name, _ in ranking})
    place = {name: index for index, name in enumerate(names)}
    lengths = [len(ranking) for ranking in rankings.values()]
    head = json.dumps([list(rankings), lengths, names], ensure_ascii=False, separators=(",", ":")).encode()
    ids = np.array([place[name] for ranking in rankings.values() for name, _ in ranking], dtype="<i4")
    scores = np.array([score for ranking in rankings.values() for _, score in ranking], dtype="<f8")
    return len(head).to_bytes(8, "little") + zlib.compress(head + ids.tobytes() + scores.tobytes(), 1)


def unpack(block: bytes) -> dict[str, list[tuple[str, float]]]:
    """What `pack` was given."""
    size, body = int.from_bytes(block[:8], "little"), zlib.decompress(block[8:])
    queries, lengths, names = json.loads(body[:size])
    count = sum(lengths)
    ids = np.frombuffer(body, dtype="<i4", count=count, offset=size).tolist()
    scores = np.frombuffer(body, dtype="<f8", count=count, offset=size + 4 * count).tolist()
    pairs = list(zip([names[i] for i in ids], scores, strict=True))
    ends = list(itertools.accumulate(lengths))
    return {query: pairs[end - size : end] for query, size, end in zip(queries, lengths, ends, strict=True)}


class StageCache:
    """JSON values by key. `read=False` computes everything anew, vectors and pairs too, and still writes the stages."""

    def __init__(self, folder: str | Path | None = None, *, read: bool = True) -> None:
        self.folder = Path(folder) if folder else default_folder()
        self._read = read
        self.hits = self.misses = 0
        # Arms of one run share vectors and pairs even when those of earlier runs are not to be used.
        self._fresh = None if read else tempfile.TemporaryDirectory(prefix="smartmem-fresh-")
        self._dirty_since = 0.0
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(self.folder / "stages.sqlite", timeout=60, isolation_level=None)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")  # a lost entry is only computed again
            self._db.execute(_SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise StoreUnavailable(f"stage cache {self.folder}: {error}; set `cache` to another folder") from error

    @property
    def vectors_path(self) -> str:
        """The file of the vector cache."""
        return self._model_file("vectors.sqlite")

    @property
    def pairs_path(self) -> str:
        """The file of a cross-encoder's scores."""
        return self._model_file("pairs.sqlite")

    @property
    def tokens_path(self) -> str:
        """The file of token vectors, for late interaction."""
        return self._model_file("tokens.sqlite")

    def _model_file(self, name: str) -> str:
        """What models answered: beside the stages, or in a folder of this run's own if nothing may be read."""
        return str((Path(self._fresh.name) if self._fresh else self.folder) / name)

    def get_many(self, keys: Sequence[bytes]) -> dict[bytes, Any]:
        """What is known among `keys`."""
        found: dict[bytes, Any] = {}
        if self._read:
            unique = list(dict.fromkeys(keys))
            for i in range(0, len(unique), _LOOKUP):
                part = unique[i : i + _LOOKUP]
                marks = ",".join("?" * len(part))
                rows = self._db.execute(f"SELECT key, value FROM stage WHERE key IN ({marks})", part)  # noqa: S608 - marks only
                found.update((key, json.loads(zlib.decompress(value))) for key, value in rows)
        self.hits += len(found)
        self.misses += len(set(keys)) - len(found)
        return found

    def get(self, key: bytes) -> Any:
        """The value, or None."""
        return self.get_many([key]).get(key)

    def put(self, key: bytes, stage: str, value: Any) -> None:
        """Keep a value. It is durable within half a second, so that a kill loses little and commits cost little."""
        if not self._db.in_transaction:
            self._db.execute("BEGIN IMMEDIATE")
            self._dirty_since = time.monotonic()
        blob = zlib.compress(json.dumps(value, separators=(",", ":")).encode(), 1)
        self._db.execute("INSERT OR REPLACE INTO stage VALUES (?, ?, ?)", (key, stage, blob))
        if time.monotonic() - self._dirty_since > _COMMIT_S:
            self.commit()

    def get_blob(self, key: bytes) -> bytes | None:
        """Bytes as `put_blob` kept them, or None."""
        row = self._db.execute("SELECT value FROM stage WHERE key = ?", (key,)).fetchone() if self._read else None
        self.hits += row is not None
        self.misses += row is None
        return None if row is None else bytes(row[0])

    def put_blob(self, key: bytes, stage: str, value: bytes) -> None:
        """Keep bytes, durable at once."""
        self.commit()
        self._db.execute("INSERT OR REPLACE INTO stage VALUES (?, ?, ?)", (key, stage, value))

    def commit(self) -> None:
        """Make everything put so far durable."""
        if self._db.in_transaction:
            self._db.execute("COMMIT")

    def sizes(self) -> dict[str, int]:
        """Entries by stage."""
        return dict(self._db.execute("SELECT name, COUNT(*) FROM stage GROUP BY name ORDER BY name"))

    def drop(self, stages: Iterable[str]) -> int:
        """Forget all entries of these stages; returns how many."""
        self.commit()
        return sum(self._db.execute("DELETE FROM stage WHERE name = ?", (stage,)).rowcount for stage in stages)

    def close(self) -> None:
        self.commit()
        self._db.close()
        if self._fresh:
            self._fresh.cleanup()

    def __enter__(self) -> StageCache:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
