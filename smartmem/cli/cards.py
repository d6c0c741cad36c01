"""The card beside a trained model: what it was made of, and what it is worth."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path


def card(files: Sequence[Path], count: int) -> dict[str, object]:
    """How many labelled messages or statements there were, and the files with their SHA-256."""
    return {
        "messages": count,
        "files": {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files},
    }


def write_card(file: Path, told: Mapping[str, object]) -> None:
    """As JSON, for people and for tests."""
    file.write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n", "utf-8")
