"""An encoder with an adapter's changes, and the linear layer above it: what `recipes/learn` writes."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from smartmem.errors import ModelError
from smartmem.rag.models import adapted
from smartmem.rag.onnx import Encoder
from smartmem.rag.protocols import Vectors
from smartmem.rag.recipes.adapter import ADAPTER, HEAD
from smartmem.rag.tensors import read_tensors

BASE = "multilingual-e5-small"
PIECES = 512  # of one text or two: as many as BASE reads when it embeds, so that all share one tokenizer


class Head(NamedTuple):
    """The encoder, and the layer's weight (labels, dim) and bias (labels,)."""

    encoder: Encoder
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]

    def probabilities(self, states: Vectors) -> NDArray[np.float32]:
        """Of the labels, for states of shape (pieces, dim): (pieces, labels)."""
        logits = states @ self.weight.T + self.bias
        raised = np.exp(logits - logits.max(axis=1, keepdims=True))
        made: NDArray[np.float32] = raised / raised.sum(axis=1, keepdims=True)
        return made


@lru_cache(maxsize=4)
def head(file: Path, *, labels: int, what: str) -> Head:
    """The head of an adapter's file; a process reads it once. `labels`: how many there should be, `what` they are.

    Raises as `adapted`, and `ModelError` for another number of labels.
    """
    files = adapted(BASE, file)
    tensors = read_tensors(files.path(ADAPTER))
    weight, bias = (np.asarray(tensors[f"{HEAD}.{part}"], dtype=np.float32) for part in ("weight", "bias"))
    if weight.shape[0] != labels:
        raise ModelError(f"{file}: it knows {weight.shape[0]} {what}, expected {labels}; tune it anew")
    return Head(Encoder(files, max_length=PIECES), weight, bias)
