"""BERT's encoder as an ONNX graph that a CPU runs well: 8-bit products, fused attention and GELU."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smartmem.errors import MissingExtra

Array = NDArray[Any]
_FUSED = "com.microsoft"  # ONNX Runtime's own operators


@dataclass(frozen=True, kw_only=True)
class Weights:
    """An encoder of BERT's architecture; tensors by the names that Hugging Face's BertModel gives them."""

    layers: int
    heads: int
    epsilon: float
    tensors: Mapping[str, Array]

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        made: NDArray[np.float32] = np.ascontiguousarray(self.tensors[name], dtype=np.float32)
        return made


class _Graph:
    """Nodes and constants as they are added; a node is known by its first output."""

    def __init__(self, onnx: Any) -> None:
        self._onnx = onnx
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, values: Array) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(self._onnx.numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def add(self, kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> list[str]:
        names = [f"n{len(self.nodes)}.{i}" for i in range(outputs)]
        self.nodes.append(self._onnx.helper.make_node(kind, inputs, names, **attributes))
        return names

    def one(self, kind: str, *inputs: str, **attributes: Any) -> str:
        return self.add(kind, *inputs, **attributes)[0]

    def dense(self, x: str, weight: NDArray[np.float32], bias: NDArray[np.float32] | None = None) -> str:
        """x @ weight (in, out) [+ bias] in 8 bits: a scale for each column of the weights, one for all activations."""
        scale = np.maximum(np.abs(weight).max(axis=0), 1e-12) / 127
        quantized, zero = _int8(weight / scale), ""
        if not _sums_exactly():
            quantized = (quantized.astype(np.int16) + 128).astype(np.uint8)
            zero = self.constant(np.full(scale.shape, 128, dtype=np.uint8))
        inputs = [x, self.constant(quantized), self.constant(scale), zero]
        if bias is not None:
            inputs.append(self.constant(bias))
        return self.one("DynamicQuantizeMatMul", *inputs, domain=_FUSED)

    def dense_by_token(self, x: str, weight: NDArray[np.float32], bias: NDArray[np.float32]) -> str:
        """The same with a scale for each token's activations: each is divided by its greatest number before and
        multiplied by it after. A few tokens have huge numbers, which leave the others no room on a common scale."""
        greatest = self.one("ReduceMax", self.one("Abs", x), self.constant(np.array([-1])), keepdims=1)
        greatest = self.one("Max", greatest, self.constant(np.array(1e-12, dtype=np.float32)))  # a token of zeros
        product = self.dense(self.one("Div", x, greatest), weight)
        return self.one("Add", self.one("Mul", product, greatest), self.constant(bias))

    def add_and_norm(self, x: str, y: str, weights: Weights, norm: str) -> str:
        """LayerNorm(x + y). In two operators: with ONNX Runtime's fused one a run takes a fifth more time."""
        parts = [self.constant(weights[f"{norm}.{part}"]) for part in ("weight", "bias")]
        return self.one("LayerNormalization", self.one("Add", x, y), *parts, epsilon=weights.epsilon, axis=-1)


def encoder(weights: Weights) -> bytes:
    """The serialised graph: `input_ids` and `attention_mask` (batch, tokens) to `last_hidden_state` (…, dim).

    Activations are scaled by what runs together, so run one text at a time where the same text has to give the same
    vector.
    """
    onnx = _onnx()
    graph = _Graph(onnx)
    x = _embedded(graph, weights, onnx)
    mask = graph.one("Cast", "attention_mask", to=onnx.TensorProto.INT32)
    for n in range(weights.layers):
        x = _layer(graph, weights, f"encoder.layer.{n}", x, mask)
    graph.nodes.append(onnx.helper.make_node("Identity", [x], ["last_hidden_state"]))
    shape = ["batch", "tokens"]
    values = onnx.helper.make_tensor_value_info
    dim = weights["embeddings.LayerNorm.bias"].shape[0]
    made = onnx.helper.make_graph(
        graph.nodes,
        "encoder",
        [values(name, onnx.TensorProto.INT64, shape) for name in ("input_ids", "attention_mask")],
        [values("last_hidden_state", onnx.TensorProto.FLOAT, [*shape, dim])],
        graph.constants,
    )
    opsets = [onnx.helper.make_opsetid("", 18), onnx.helper.make_opsetid(_FUSED, 1)]
    # The oldest file version with these operators: a newer one would ask for a newer ONNX Runtime.
    content: bytes = onnx.helper.make_model(made, opset_imports=opsets, ir_version=8).SerializeToString()
    return content


def _embedded(graph: _Graph, weights: Weights, onnx: Any) -> str:
    """Words (in 8 bits with a scale each), positions and the first segment's vector, normalised."""
    words = weights["embeddings.word_embeddings.weight"]
    scale = np.maximum(np.abs(words).max(axis=1, keepdims=True), 1e-12) / 127
    rows = graph.one("Gather", graph.constant(_int8(words / scale)), "input_ids")
    scales = graph.one("Gather", graph.constant(scale.astype(np.float32)), "input_ids")
    x = graph.one("Mul", graph.one("Cast", rows, to=onnx.TensorProto.FLOAT), scales)
    places = weights["embeddings.position_embeddings.weight"] + weights["embeddings.token_type_embeddings.weight"][0]
    count = graph.one("Gather", graph.one("Shape", "input_ids"), graph.constant(np.array([1])))
    zero = graph.constant(np.array([0]))
    x = graph.one("Add", x, graph.one("Slice", graph.constant(places), zero, count, zero))
    norm = [graph.constant(weights[f"embeddings.LayerNorm.{part}"]) for part in ("weight", "bias")]
    return graph.one("LayerNormalization", x, *norm, epsilon=weights.epsilon, axis=-1)


def _layer(graph: _Graph, weights: Weights, at: str, x: str, mask: str) -> str:
    asked = [f"{at}.attention.self.{part}" for part in ("query", "key", "value")]
    projected = graph.dense(
        x, _joined([weights[f"{a}.weight"].T for a in asked]), _joined([weights[f"{a}.bias"] for a in asked])
    )
    query, key, value = graph.add("Split", projected, outputs=3, axis=-1, num_outputs=3)
    seen = graph.one("MultiHeadAttention", query, key, value, "", mask, domain=_FUSED, num_heads=weights.heads)

    out, inner, outer = f"{at}.attention.output", f"{at}.intermediate.dense", f"{at}.output"
    mixed = graph.dense(seen, weights[f"{out}.dense.weight"].T, weights[f"{out}.dense.bias"])
    x = graph.add_and_norm(x, mixed, weights, f"{out}.LayerNorm")
    # A scale a token is worth its time here: cosine to float32 .9977 on average, .992 with common scales, and .9972 if
    # attention's products had it too (MiniLM, turns of LoCoMo).
    wide = graph.dense_by_token(x, weights[f"{inner}.weight"].T, weights[f"{inner}.bias"])
    bent = graph.one("Gelu", wide, domain=_FUSED)
    narrow = graph.dense_by_token(bent, weights[f"{outer}.dense.weight"].T, weights[f"{outer}.dense.bias"])
    return graph.add_and_norm(x, narrow, weights, f"{outer}.LayerNorm")


def _joined(parts: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    return np.concatenate(parts, axis=-1)


@lru_cache(maxsize=1)
def _sums_exactly() -> bool:
    """Whether ONNX Runtime's products of unsigned activations with signed weights are exact on this machine.

    On x86 without VNNI they saturate in 16 bits (a cosine of .87 to what the model computes); products of two unsigned
    factors do not, are slower, and give the very numbers that the signed ones give elsewhere.
    """
    if platform.machine().lower() not in ("x86_64", "amd64", "i386", "i686"):
        return True
    try:
        return "vnni" in Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:  # not Linux: nobody says what the processor has
        return False


def _int8(values: NDArray[np.float32]) -> NDArray[np.int8]:
    return np.clip(np.rint(values), -127, 127).astype(np.int8)


def _onnx() -> Any:
    try:
        import onnx
        import onnx.helper
        import onnx.numpy_helper
    except ImportError:
        raise MissingExtra("onnx", "onnx") from None
    return onnx
