"""Running transformer encoders in ONNX Runtime, for embedders, late interaction and cross-encoders alike.

One text is one run, without padding, and a pool of threads keeps the cores busy. Batching would be no faster on a CPU
(measured on 2 cores, bge-small int8, 36 tokens: 426 texts/s this way, 380 in length-sorted batches of 32), and a
dynamically quantised model scales its activations by the whole batch: the same text would get other vectors (cosine
down to .991) beside other neighbours, so that no cache and no resumed run would agree with a fresh one.
"""

from __future__ import annotations

import functools
import hashlib
import os
import threading
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from weakref import WeakValueDictionary

import numpy as np

from smartmem.errors import MissingExtra, ModelError, needs
from smartmem.rag.models import ModelFiles, resolve
from smartmem.rag.protocols import Vectors


class Encoder:
    """A tokenizer and a session. Safe to share between threads: runs keep no state but the count of tokens read."""

    def __init__(
        self, files: ModelFiles, *, max_length: int, threads: int | None = None, marks: Sequence[str] = ()
    ) -> None:
        """`marks`: words of the vocabulary that count as one token each where they stand in a text."""
        with needs("onnx"):
            import onnxruntime
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # parallel over texts, see the module's docstring
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        model = str(files.path("model.onnx"))
        try:
            self._session: Any = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
            self._tokenizer = _tokenizer(files.path("tokenizer.json").read_bytes(), max_length, tuple(marks))
        except MissingExtra:
            raise
        except Exception as error:  # both libraries raise bare or private exceptions
            raise ModelError(f"model {files.name!r} in {files.folder} cannot be loaded: {error}") from error
        self.tokens_read = 0
        self._inputs = {i.name for i in self._session.get_inputs()}
        self.threads = threads or _cores()
        self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix="onnx") if self.threads > 1 else None

    def hidden(self, text: str) -> Vectors:
        """The last hidden states of one text: (tokens, dim)."""
        return self._run(self._counted([self._tokenizer.encode(text)])[0])

    def aligned(self, text: str) -> tuple[Vectors, list[tuple[int, int]]]:
        """The same with the place of each token in the text (code points, half-open; empty for marks of the model)."""
        encoded = self._tokenizer.encode(text)
        return self._run(self._counted([encoded])[0]), encoded.offsets

    def hidden_many(self, texts: Sequence[str]) -> Iterator[Vectors]:
        """The same for many, in their order."""
        return self._map(self._counted(self._tokenizer.encode_batch(list(texts))))

    def hidden_pairs(self, text: str, others: Sequence[str]) -> Iterator[Vectors]:
        """The states of `text` with each of `others` behind it: (tokens, dim) each, in their order."""
        return self._map(self._counted(self._tokenizer.encode_batch([(text, other) for other in others])))

    def pair_scores(self, query: str, texts: Sequence[str]) -> Generator[float]:
        """A cross-encoder's logit for each (query, text), in their order, as they become ready.

        Closing the generator cancels what was not begun.
        """
        results = self.hidden_pairs(query, texts)
        try:
            for logits in results:
                yield float(logits[0])
        finally:
            if isinstance(results, Generator):
                results.close()

    def _counted(self, encoded: list[Any]) -> list[Any]:
        self.tokens_read += sum(len(one.ids) for one in encoded)
        return encoded

    def _map(self, encoded: Sequence[Any]) -> Iterator[Vectors]:
        if self._pool is None or len(encoded) == 1:
            return map(self._run, encoded)
        return self._pool.map(self._run, encoded)

    def _run(self, encoded: Any) -> Vectors:
        feed = {"input_ids": np.array([encoded.ids], dtype=np.int64)}
        if "attention_mask" in self._inputs:
            feed["attention_mask"] = np.ones_like(feed["input_ids"])
        if "token_type_ids" in self._inputs:
            feed["token_type_ids"] = np.array([encoded.type_ids], dtype=np.int64)
        try:
            result: Vectors = self._session.run(None, feed)[0][0]
        except Exception as error:  # ONNX Runtime raises bare C++ errors
            raise ModelError(f"ONNX Runtime failed on a text of {len(encoded.ids)} tokens: {error}") from error
        return result


def loaded(files: ModelFiles, *, max_length: int, threads: int | None = None, marks: Sequence[str] = ()) -> Encoder:
    """An encoder that all of a process share: a search of chat turns makes a pipeline, and would load it, each time.

    Where the model lies and its version are part of the key, so that other files of that name are loaded anew.
    """
    wanted = tuple(mark for mark in marks if mark)
    return _loaded(files.name, str(files.folder), files.version, max_length, threads, wanted)


_tokenizers: WeakValueDictionary[tuple[bytes, int, tuple[str, ...]], Any] = WeakValueDictionary()
_making = threading.Lock()


def _tokenizer(content: bytes, max_length: int, marks: tuple[str, ...]) -> Any:
    """One of a kind in a process: multilingual-e5-small's takes 280 MB, and three read with it (what embeds, extracts
    and compares)."""
    with needs("onnx"):
        from tokenizers import Tokenizer
    key = (hashlib.sha256(content).digest(), max_length, marks)
    with _making:
        made = _tokenizers.get(key)
        if made is None:
            made = Tokenizer.from_buffer(content)
            made.add_special_tokens(list(marks))
            made.no_padding()
            made.enable_truncation(max_length=max_length)
            _tokenizers[key] = made
    return made


@functools.lru_cache(maxsize=4)
def _loaded(
    name: str, _folder: str, _version: str, max_length: int, threads: int | None, marks: tuple[str, ...]
) -> Encoder:
    return Encoder(resolve(name), max_length=max_length, threads=threads, marks=marks)


def _cores() -> int:
    """The cores that this process may use, at most 8: beyond that, memory bandwidth sets the pace."""
    return max(1, min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1))
