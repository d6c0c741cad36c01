"""Files that come with the package and are no code: the registry of benchmarks, data/tiny, data/web, the suites.

In a checkout `smartmem/data` and `smartmem/suites` are links to the folders at the top, in a wheel they are copies.
"""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
# From the package's folder, then from the checkout around it (where the system made no links of the links).
_PLACES = {"data": ("data", "../data"), "eval/suites": ("suites", "../eval/suites")}


def shipped(name: str) -> Path | None:
    """A file or folder by its path in the project (`data/tiny`): that of the current folder, else the package's."""
    if (here := Path.cwd() / name).exists():
        return here
    for folder, places in _PLACES.items():
        if name.startswith(f"{folder}/"):
            for place in places:
                if (found := _PACKAGE / place / name.removeprefix(f"{folder}/")).exists():
                    return found.resolve()
    return None


def is_installed(path: Path) -> bool:
    """Whether it lies inside an installed package, where nothing else may be written."""
    return path.resolve().is_relative_to(_PACKAGE)
