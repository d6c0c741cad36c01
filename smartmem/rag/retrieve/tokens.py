"""Token vectors for late interaction, kept as int8 in memory or in one SQLite file by SHA-256 of the text."""

from __future__ import annotations

import functools
import hashlib
import threading
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from smartmem.errors import ConfigError
from smartmem.rag.cachefile import CacheFile
from smartmem.rag.models import resolve
from smartmem.rag.onnx import loaded
from smartmem.rag.protocols import Vectors

_BATCH = 256  # texts encoded between two commits, so that a killed run loses little
Tokens = NDArray[np.int8]


class TokenVectors:
    """Unit vectors of a text's tokens: `queries` in full, `documents` as int8, for they are many (14 KB a turn).

    A component of a unit vector of d numbers is about 1 / sqrt(d); int8 holds up to 6.3 times that, and what is larger
    is cut: some components of BERT's are, in every text alike. On LoCoMo's conversations 1-5 this moves nDCG@10 by less
    than 0.1 of 57. Threads may share an object, processes the file.
    """

    def __init__(self, model: str, path: str | None = None, threads: int | None = None) -> None:
        files = resolve(model)
        entry = files.entry
        if entry.task != "late-interaction":
            raise ConfigError(
                f"model {model!r} is an {entry.task}, not a late-interaction model; use e.g. colbert-small-en"
            )
        self._prefixes = entry.query_prefix, entry.document_prefix
        self._encoder = loaded(
            files, max_length=entry.max_length, threads=threads, marks=[prefix.strip() for prefix in self._prefixes]
        )
        self.languages = entry.languages
        self.fingerprint = f"late:{model}:{files.version}:{entry.max_length}:{'|'.join(self._prefixes)}"
        self._lock = threading.Lock()
        self._kept: dict[bytes, Tokens] = {}
        self._file = CacheFile(path, "tokens", "vectors", "BLOB", "token cache") if path is not None else None

    def query(self, text: str) -> Vectors:
        """(tokens, dim) of a question, float32."""
        return _unit(self._encoder.hidden(self._prefixes[0] + text))

    def prepare(self, texts: Sequence[str]) -> None:
        """Encode and keep what is not known yet."""
        wanted = {self._key(text): text for text in texts}
        known = self._known(list(wanted))
        todo = [(key, text) for key, text in wanted.items() if key not in known]
        for i in range(0, len(todo), _BATCH):
            self._encoded(dict(todo[i : i + _BATCH]))

    def documents(self, texts: Sequence[str]) -> list[Tokens]:
        """(tokens, dim) of each text, in their order; one that is not known (any more) is encoded."""
        keys = [self._key(text) for text in texts]
        known = self._load(keys)
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
        if missing:
            known |= self._encoded(missing)
        return [known[key] for key in keys]

    def forget(self, texts: Iterable[str]) -> None:
        """Drop what memory and file hold of these texts. Another chunk of the same words is encoded again."""
        keys = [self._key(text) for text in texts]
        if self._file is not None:
            self._file.drop(keys)
        with self._lock:
            for key in keys:
                self._kept.pop(key, None)

    def _encoded(self, texts: Mapping[bytes, str]) -> dict[bytes, Tokens]:
        """Encode these texts and keep what comes of them, both by key."""
        states = self._encoder.hidden_many([self._prefixes[1] + text for text in texts.values()])
        fresh = {key: _int8(_unit(hidden)) for key, hidden in zip(texts, states, strict=True)}
        if self._file is not None:
            self._file.keep((key, _packed(one)) for key, one in fresh.items())
        else:
            with self._lock:
                self._kept.update(fresh)
        return fresh

    def _known(self, keys: Sequence[bytes]) -> set[bytes]:
        if self._file is not None:
            return self._file.known(keys)
        with self._lock:
            return self._kept.keys() & set(keys)

    def _load(self, keys: Sequence[bytes]) -> dict[bytes, Tokens]:
        if self._file is not None:
            return {key: _unpacked(blob) for key, blob in self._file.load(keys).items()}
        with self._lock:
            return {key: self._kept[key] for key in keys if key in self._kept}

    def _key(self, text: str) -> bytes:
        return hashlib.sha256(f"{self.fingerprint}\0{text}".encode("utf-8", "surrogatepass")).digest()


def token_vectors(model: str, path: str | None, threads: int | None) -> TokenVectors:
    """Vectors in memory for each who asks; those of one file are shared in a process: a search of turns makes a
    pipeline each time, and would open the file each time too."""
    return TokenVectors(model, path, threads) if path is None else _of_file(model, path, threads)


@functools.lru_cache(maxsize=4)
def _of_file(model: str, path: str, threads: int | None) -> TokenVectors:
    return TokenVectors(model, path, threads)


def max_sim(query: Vectors, documents: Sequence[Tokens]) -> NDArray[np.float64]:
    """The mean over the question's tokens of the greatest dot product with a token of the document, one for each
    document: ColBERT's MaxSim (Khattab and Zaharia, SIGIR 2020) over the number of question tokens; about 0 … 1."""
    if not documents:
        return np.zeros(0)
    every = np.concatenate(documents).astype(np.float32)
    starts = np.cumsum([0, *(len(one) for one in documents[:-1])])
    dots = every @ query.T / _scale(query.shape[1])
    best: NDArray[np.float64] = np.maximum.reduceat(dots, starts, axis=0).mean(1).astype(np.float64)
    return best


def _scale(dim: int) -> float:
    """What int8 counts in: 1 is 20 x sqrt(dim)."""
    return float(20 * np.sqrt(dim))


def _int8(vectors: Vectors) -> Tokens:
    made: Tokens = np.clip(np.rint(vectors * _scale(vectors.shape[1])), -127, 127).astype(np.int8)
    return made


def _packed(vectors: Tokens) -> bytes:
    """How many tokens (4 bytes, little-endian), then their vectors."""
    return len(vectors).to_bytes(4, "little") + vectors.tobytes()


def _unpacked(blob: bytes) -> Tokens:
    return np.frombuffer(blob, dtype=np.int8, offset=4).reshape(int.from_bytes(blob[:4], "little"), -1)


def _unit(hidden: Vectors) -> Vectors:
    made: Vectors = hidden / np.maximum(np.linalg.norm(hidden, axis=1, keepdims=True), 1e-12)
    return made
