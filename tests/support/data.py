"""Where the benchmark data lies; it is read in place and never copied."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BENCHMARKS = Path(os.environ.get("SMARTMEM_BENCHMARKS", ROOT.parent / "shared" / "benchmarks"))
LOCOMO = BENCHMARKS / "locomo" / "locomo10.json"

needs_benchmarks = pytest.mark.skipif(
    not LOCOMO.exists(), reason=f"no benchmark data at {BENCHMARKS} (set SMARTMEM_BENCHMARKS); CI has it"
)
