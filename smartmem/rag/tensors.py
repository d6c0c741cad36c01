"""Reading safetensors files: 8 bytes of header length (little-endian), a JSON header, raw tensors.

The format is small enough that reading it here saves a dependency.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_DTYPES: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "I64": np.dtype("<i8"),
}


def read_tensors(file: Path) -> dict[str, NDArray[Any]]:
    """The tensors by name, as views of the file's bytes. Those of a type that NumPy lacks (bfloat16) are left out."""
    raw = file.read_bytes()
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + size])
    found = {}
    for name, tensor in header.items():
        if name == "__metadata__" or tensor["dtype"] not in _DTYPES:
            continue
        start, end = (8 + size + offset for offset in tensor["data_offsets"])
        flat: NDArray[Any] = np.frombuffer(raw[start:end], dtype=_DTYPES[tensor["dtype"]])
        found[name] = flat.reshape(tensor["shape"])
    return found
