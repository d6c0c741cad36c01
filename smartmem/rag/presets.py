"""Named pipeline specifications: `fast`, `balanced`, `quality` (presets.toml beside this module)."""

from __future__ import annotations

import functools
import tomllib
from pathlib import Path
from typing import Any

from smartmem.errors import ConfigError

_FILE = Path(__file__).with_name("presets.toml")


def preset(name: str) -> dict[str, Any]:
    """The specification of one preset. Raises `ConfigError` naming the known ones."""
    known = _read()
    if name not in known:
        raise ConfigError(f"unknown preset {name!r}; known are: {', '.join(known)}")
    return dict(known[name])


def preset_names() -> list[str]:
    """All presets, from the fastest to the best."""
    return list(_read())


@functools.lru_cache(maxsize=1)
def _read() -> dict[str, dict[str, Any]]:
    known: dict[str, dict[str, Any]] = {}
    for name, spec in tomllib.loads(_FILE.read_text("utf-8")).items():
        known[name] = known.get(spec.pop("like", ""), {}) | spec
    return known
