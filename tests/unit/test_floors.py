"""The floors of the house are the same in pyproject.toml, in the docs and on the disk.

`make lint` checks the imports.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "smartmem"
CONTRACT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"][
    "contracts"
][0]
ROOMS = {name.strip().removeprefix("smartmem.") for layer in CONTRACT["layers"] for name in layer.split("|")}
# Rooms that nobody may open: a helper lives with what it helps.
CATCH_ALL = {"util", "utils", "helpers", "misc", "tools_common"}


def test_every_room_has_a_floor() -> None:
    on_disk = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert on_disk - {"__init__"} == ROOMS


def test_architecture_lists_every_room() -> None:
    text = (ROOT / "docs/architecture.md").read_text("utf-8")
    (table,) = re.findall(r"## Floors\n(.*?)\n## ", text, re.DOTALL)
    assert set(re.findall(r"`(\w+)`", table)) == ROOMS


def test_no_room_for_everything() -> None:
    assert not [str(path) for path in PACKAGE.rglob("*.py") if path.stem in CATCH_ALL]
