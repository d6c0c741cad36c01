"""An ONNX encoder from the files that sentence-transformers reads: model.safetensors and config.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from smartmem.errors import ModelError
from smartmem.rag.recipes.graph import Weights, encoder
from smartmem.rag.tensors import read_tensors


def made(sources: Mapping[str, Path]) -> dict[str, bytes]:
    """`model.onnx` of a model of BERT's architecture with GELU, of any size."""
    config = json.loads(sources["config.json"].read_text("utf-8"))
    kind, bend = config.get("model_type"), config.get("hidden_act")
    if kind != "bert" or bend != "gelu" or config.get("position_embedding_type", "absolute") != "absolute":
        raise ModelError(
            f"{sources['config.json']}: model_type = {kind!r}, hidden_act = {bend!r}; only 'bert' with 'gelu' and "
            "absolute positions can be built; take one that comes as ONNX, or the embedder 'sentence-transformers'"
        )
    tensors = {
        name.removeprefix("bert."): values for name, values in read_tensors(sources["model.safetensors"]).items()
    }
    weights = Weights(
        layers=config["num_hidden_layers"],
        heads=config["num_attention_heads"],
        epsilon=config["layer_norm_eps"],
        tensors=tensors,
    )
    return {"model.onnx": encoder(weights)}
