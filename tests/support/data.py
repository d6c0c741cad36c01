"""Where the benchmark data lies; it is read in place and never copied."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BENCHMARKS = Path(os.environ.get("SMARTMEM_BENCHMARKS", ROOT.parent / "shared" / "benchmarks"))
LOCOMO = BENCHMARKS / "locomo" / "locomo10.json"


def list_hashes(folder: str = "labelled") -> dict[str, str]:
    """SHA-256 of each list below data/, by its name, as the cards of what was trained on them have it."""
    lists = (ROOT / "data" / folder).glob("*.txt")
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in lists}


needs_benchmarks = pytest.mark.skipif(
    not LOCOMO.exists(), reason=f"no benchmark data at {BENCHMARKS} (set SMARTMEM_BENCHMARKS); CI has it"
)
