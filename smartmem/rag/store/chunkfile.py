"""One SQLite file that keeps chunks and vectors, and tells what others changed in it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from smartmem.errors import DimensionMismatch, StoreUnavailable
from smartmem.rag.protocols import Vectors
from smartmem.rag.types import Chunk

# `seq` is the number of the write that last touched a row; a reader asks for what is newer than it has seen.
# Removed ids stay as rows without content, so that other processes learn of the removal.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS info (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS chunks (
    id TEXT PRIMARY KEY, seq INTEGER NOT NULL, document_id TEXT, start INTEGER, "end" INTEGER, "order" INTEGER,
    text TEXT, index_text TEXT, metadata TEXT, vector BLOB
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS chunks_seq ON chunks (seq);
"""
_to_json = json.JSONEncoder(ensure_ascii=False).encode  # json.dumps makes an encoder a call when it has options
Row = tuple[str, Chunk | None, Vectors | None]


class ChunkFile:
    """Not thread-safe: its store serialises the calls. Readers in other processes never wait for a writer (WAL)."""

    def __init__(self, path: Path, dim: int) -> None:
        self._path, self._dim = path, dim
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # isolation_level=None: transactions are opened by hand, since a read must never start one by itself.
            self._db = sqlite3.connect(path, timeout=30, check_same_thread=False, isolation_level=None)
            self._db.execute(f"PRAGMA page_size={_page_size(dim)}")  # of a new file; an older one keeps its own
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")  # an upsert that returned survives a power cut
            self._db.execute("PRAGMA secure_delete=ON")  # a forgotten memory's bytes are overwritten, not only unlinked
            self._db.executescript(_SCHEMA)
            self._db.execute("INSERT OR IGNORE INTO info VALUES ('dim', ?), ('seq', 0)", (dim,))
        except (OSError, sqlite3.Error) as error:
            raise StoreUnavailable(f"vector file {path}: {error}; choose another path or free this one") from error
        stored = self._db.execute("SELECT value FROM info WHERE name = 'dim'").fetchone()[0]
        if stored != dim:
            self._db.close()
            raise DimensionMismatch(
                f"vector file {path} holds vectors of {stored} dimensions, the embedder makes {dim}; "
                "use another path or the embedder that filled it"
            )

    def version(self) -> int:
        """Changes when another connection has committed."""
        with self._named():
            return int(self._db.execute("PRAGMA data_version").fetchone()[0])

    def changes(self, seen: int) -> tuple[int, Iterator[Row]]:
        """What was written after the write number `seen`: the newest number, and (id, chunk, vector) of each row;
        chunk and vector are None for a removed id."""
        with self._named():
            seq = int(self._db.execute("SELECT value FROM info WHERE name = 'seq'").fetchone()[0])
            rows = self._db.execute("SELECT * FROM chunks WHERE seq > ? AND seq <= ?", (seen, seq))
        return seq, map(self._row, rows)

    def upsert(self, chunks: Sequence[Chunk], vectors: Vectors) -> int:
        """Write all of them or none. Returns the number of this write."""
        stored = np.ascontiguousarray(vectors, dtype="<f4")
        with self._write() as seq:
            self._db.executemany(
                "INSERT OR REPLACE INTO chunks VALUES (?,?,?,?,?,?,?,?,?,?)",
                (
                    (
                        c.id, seq, c.document_id, c.start, c.end, c.order, c.text, c.index_text,
                        _to_json(dict(c.metadata)), vector.data,
                    )
                    for c, vector in zip(chunks, stored, strict=True)
                ),
            )  # fmt: skip
        return seq

    def delete(self, ids: Sequence[str]) -> int:
        """Empty the rows: neither text nor vector stays in the file's live pages. Returns the number of this write."""
        with self._write() as seq:
            self._db.executemany(
                'UPDATE chunks SET seq=?, document_id=NULL, start=NULL, "end"=NULL, "order"=NULL, text=NULL,'
                " index_text=NULL, metadata=NULL, vector=NULL WHERE id=?",
                [(seq, id) for id in ids],
            )
        return seq

    def close(self) -> None:
        self._db.close()

    def _row(self, row: tuple[object, ...]) -> Row:
        id, _, document_id, start, end, order, text, index_text, metadata, vector = row
        if vector is None:
            return str(id), None, None
        chunk = Chunk(
            id=str(id),
            document_id=str(document_id),
            start=int(start),  # type: ignore[call-overload]
            end=int(end),  # type: ignore[call-overload]
            text=str(text),
            order=int(order),  # type: ignore[call-overload]
            metadata=json.loads(str(metadata)),
            index_text=None if index_text is None else str(index_text),
        )
        return str(id), chunk, np.frombuffer(vector, dtype="<f4")  # type: ignore[call-overload]

    @contextmanager
    def _write(self) -> Iterator[int]:
        with self._named():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._db.execute("UPDATE info SET value = value + 1 WHERE name = 'seq'")
                yield int(self._db.execute("SELECT value FROM info WHERE name = 'seq'").fetchone()[0])
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StoreUnavailable(f"vector file {self._path}: {error}; nothing was written, try again") from error


def _page_size(dim: int) -> int:
    """A page holds four rows of a vector and half a kilobyte of words: what is larger than a quarter of a page goes to
    pages of its own in a table without rowid, and 384 dimensions in pages of 4 KB were written at 0.6 of the speed."""
    wanted = 4 * (4 * dim + 512)
    return min(65_536, max(4_096, 1 << (wanted - 1).bit_length()))
