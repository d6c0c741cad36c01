"""models and rag: what can be plugged in, and what each stage does with one query."""

from __future__ import annotations

from typing import Annotated

import typer

from smartmem.cli.common import AsJson, print_json, print_table, say

models = typer.Typer(no_args_is_help=True, help="Embedders and rerankers: list them, fetch their files.")
rag = typer.Typer(no_args_is_help=True, help="The retrieval core: list its components, look into one query.")


@models.command("list")
def list_models(json: AsJson = False) -> None:
    """List the known models and where each one's files are.

    \b
    Example:
      smartmem models list
    """
    from smartmem.rag.models import list_models as known

    rows = [(m.name, m.task, m.about, m.source, str(m.where) if m.where else "not fetched") for m in known()]
    if json:
        print_json([dict(zip(("name", "task", "about", "source", "where"), row, strict=True)) for row in rows])
        return
    print_table("", ["name", "task", "about", "source", "where"], rows)


@models.command()
def get(names: Annotated[list[str], typer.Argument(help="names from `smartmem models list`")]) -> None:
    """Fetch models into the user's cache; every file is checked by its hash. What is there already is left alone.

    \b
    Example:
      smartmem models get bge-small-en reranker-en
    """
    from smartmem.rag.models import fetch

    for name in names:
        say(f"{name}: {fetch(name).folder}")


@rag.command("list")
def list_components(json: AsJson = False) -> None:
    """List every registered component by kind.

    \b
    Example:
      smartmem rag list
    """
    from smartmem.rag.presets import preset_names
    from smartmem.rag.registry import names

    found = {kind: names(kind) for kind in ("chunker", "embedder", "store", "retriever", "reranker", "corpus")}
    found["preset"] = preset_names()
    if json:
        print_json(found)
        return
    print_table("", ["kind", "names"], [(kind, ", ".join(have)) for kind, have in found.items()])
