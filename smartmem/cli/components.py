"""models and rag: what can be plugged in, and what each stage does with one query."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

import typer

from smartmem.cli.common import AsJson, Database, SettingsFile, UserId, print_json, print_table, say, workbench

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
      smartmem models get multilingual-e5-small reranker-en
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


@rag.command()
def inspect(
    query: Annotated[str, typer.Argument(help="what is asked")],
    user: UserId,
    preset: Annotated[
        str | None, typer.Option("--preset", help="fast, balanced or quality  [default: settings]")
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="hits in the answer")] = 10,
    show: Annotated[int, typer.Option("--show", min=1, help="candidates to print for each stage")] = 10,
    database: Database = None,
    settings: SettingsFile = None,
    json: AsJson = False,
) -> None:
    """Search one user's chat turns and show what each stage did: candidates, scores, ranks before and after.

    \b
    Example:
      smartmem rag inspect --user 1 --preset balanced "When did Caroline go to the support group?"
    """
    changes: dict[str, Any] = {} if preset is None else {"preset": preset}
    with workbench(database, settings, create=False) as bench:
        found = bench.inspect_turns(user, query, k=k, **changes)
    if json:
        print_json(dataclasses.asdict(found))
        return
    before: dict[str, int] = {}
    for stage in found.stages:
        print_table(
            f"{stage.name}: {len(stage.hits)} candidates in {stage.ms:.1f} ms  {stage.note}",
            ["rank", "before", "score", "reasons", "text"],
            [
                (rank, before.get(hit.chunk.id), hit.score, _reasons(hit), f"{hit.chunk.text[:100]}")
                for rank, hit in enumerate(stage.hits[:show], 1)
            ],
        )
        before = {hit.chunk.id: rank for rank, hit in enumerate(stage.hits, 1)}
    reason = f"; {found.fallback_reason}" if found.fallback_reason else ""
    say(f"answer: {len(found.hits)} hits in {found.ms:.1f} ms{reason}")


def _reasons(hit: Any) -> str:
    return " ".join(f"{name}={value:.3g}" for name, value in hit.reasons.items())
