"""A site's own components: what SMARTMEM_COMPONENTS names is imported before a component is looked up by its name.

    SMARTMEM_COMPONENTS=paragraph_chunker.py,my_package.extractors

Modules by their dotted name, or files ending in .py, separated by commas. Worker processes inherit the variable.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import sys
from pathlib import Path

from smartmem.errors import ConfigError

VARIABLE = "SMARTMEM_COMPONENTS"


def load_site_components() -> None:
    """Import each once. Raises `ConfigError` for what is not there; an error inside it is the site's own."""
    for place in os.environ.get(VARIABLE, "").split(","):
        if place.strip():
            _import(place.strip())


@functools.cache
def _import(place: str) -> None:
    if not place.endswith(".py"):
        try:
            importlib.import_module(place)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{place}.".startswith(f"{error.name}."):
                raise  # it is there, and lacks something itself
            raise ConfigError(f"{VARIABLE} names {place!r}: no such module; put it on PYTHONPATH") from None
        return
    file = Path(place).expanduser()
    if not file.is_file():
        raise ConfigError(f"{VARIABLE} names {place!r}: no such file")
    name = f"smartmem_site_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{VARIABLE} names {place!r}: not a Python file")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
