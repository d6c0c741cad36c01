"""Low-rank changes to an encoder's weights (LoRA), in a safetensors file with the names that PEFT gives them.

W becomes W + scale · B A, with A (rank, in), B (out, rank); the scale stands in the file's tensor `scale`.
Hu et al. (2021), LoRA: Low-Rank Adaptation of Large Language Models.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from smartmem.errors import ModelError
from smartmem.rag.recipes.graph import Weights
from smartmem.rag.tensors import read_tensors

ADAPTER = "adapter.safetensors"
HEAD = "base_model.model.classifier"  # the linear layer above the encoder, which stays outside the graph
SCALE = "scale"
_DOWN, _UP = ".lora_A.weight", ".lora_B.weight"


def adapted(weights: Weights, file: Path) -> Weights:
    """The weights with the changes added. Raises `ModelError` for a change to a matrix that they do not have."""
    changes = read_tensors(file)
    tensors = dict(weights.tensors)
    for name in (name for name in changes if name.endswith(_DOWN)):
        base = name.removesuffix(_DOWN)
        matrix = base.removeprefix("base_model.model.bert.") + ".weight"
        down, up = (np.asarray(changes[base + part], dtype=np.float32) for part in (_DOWN, _UP))
        if matrix not in tensors or tensors[matrix].shape != (up.shape[0], down.shape[1]):
            raise ModelError(f"{file}: {base} fits no matrix of this model; it was made for another one")
        tensors[matrix] = tensors[matrix] + np.float32(changes[SCALE]) * (up @ down)
    return replace(weights, tensors=tensors)
