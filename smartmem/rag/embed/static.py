"""Static token vectors (model2vec, WordLlama): a table look-up and a mean, 40,000 texts/s and more."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smartmem.errors import MissingExtra, ModelError
from smartmem.rag.embed.vectors import empty, unit
from smartmem.rag.models import resolve
from smartmem.rag.protocols import Vectors
from smartmem.rag.registry import register
from smartmem.rag.tensors import read_tensors


@register("embedder", "static")
class StaticEmbedder:
    """The mean of the vectors of a text's tokens. `model`: a name of models.toml, or a folder with model.safetensors
    (one matrix, tokens x dim) and tokenizer.json. Unknown tokens are left out."""

    def __init__(self, model: str = "potion-base-8m", max_length: int = 512) -> None:
        try:
            from tokenizers import Tokenizer
        except ImportError:
            raise MissingExtra("tokenizers", "onnx") from None
        files = resolve(model)
        self._table = read_matrix(files.path("model.safetensors"))
        self._tokenizer: Any = Tokenizer.from_file(str(files.path("tokenizer.json")))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_length=max_length)
        self._unknown = {self._tokenizer.token_to_id(token) for token in ("[UNK]", "<unk>")} - {None}
        self.dim = int(self._table.shape[1])
        self.languages = files.entry.languages
        self.tokens_read = 0
        self.fingerprint = f"static:{model}:{files.version}:{max_length}"

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        if not texts:
            return empty(self.dim)
        encoded = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        self.tokens_read += sum(len(e.ids) for e in encoded)
        rows = [[i for i in e.ids if i not in self._unknown] for e in encoded]
        sums = np.zeros((len(texts), self.dim), dtype=np.float32)
        some = [n for n, ids in enumerate(rows) if ids]
        if some:
            lengths = np.array([len(rows[n]) for n in some])
            tokens = np.concatenate([np.array(rows[n], dtype=np.intp) for n in some])
            sums[some] = np.add.reduceat(self._table[tokens], np.concatenate([[0], np.cumsum(lengths)[:-1]]), axis=0)
        return unit(sums)  # the mean and the sum have the same direction

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        return self.embed_documents(texts)


def read_matrix(file: Path) -> NDArray[np.float32]:
    """The one 2-d tensor of a safetensors file as float32. Raises `ModelError` when there is not exactly one."""
    tensors = read_tensors(file)
    found = [tensor for tensor in tensors.values() if tensor.ndim == 2]
    if len(found) != 1 or found[0].dtype.kind != "f":
        raise ModelError(f"{file} holds no single float matrix (has: {', '.join(tensors)}); it is no static model")
    return found[0].astype(np.float32)
