"""data: the benchmarks and corpora that evaluations run on."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from smartmem.cli.common import NOT_PASSED, AsJson, print_json, print_table, say

if TYPE_CHECKING:
    from smartmem.evaluation.datasets.registry import FileState

app = typer.Typer(no_args_is_help=True, help="Datasets: list, fetch, look, validate, start your own.")

Name = Annotated[str, typer.Argument(help="a name from `smartmem data list`")]
LocalFile = Annotated[Path | None, typer.Option("--file", help="a local file or folder instead of the registry's")]


@app.command("list")
def list_(json: AsJson = False) -> None:
    """List the registered datasets with their licence and use.

    \b
    Example:
      smartmem data list
    """
    from smartmem.evaluation.datasets.registry import list_datasets

    entries = list_datasets()
    if json:
        print_json({name: entry.model_dump(mode="json") for name, entry in entries.items()})
        return
    print_table("", ["name", "loader", "licence", "use"], [(n, e.loader, e.licence, e.use) for n, e in entries.items()])


@app.command()
def get(name: Name, json: AsJson = False) -> None:
    """Find a dataset's files on this machine, or download them; either way their hash is checked.

    \b
    Example:
      smartmem data get locomo
    """
    from smartmem.evaluation.datasets import registry

    found = registry.get(name)
    if json:
        print_json({"name": name, "files": {role: str(path) for role, path in found.items()}})
        return
    for role, path in found.items():
        say(f"{name} {role}: {path}")


@app.command()
def show(name: Name, file: LocalFile = None, json: AsJson = False) -> None:
    """Load a dataset and say what it holds: conversations, turns, queries, what was repaired and refused.

    \b
    Examples:
      smartmem data show locomo
      smartmem data show realtalk --file chats/
    """
    from smartmem.evaluation.datasets.registry import load_dataset

    loaded = load_dataset(name, file)
    if json:
        print_json({"name": loaded.name, **loaded.counts(), "notes": [dataclasses.asdict(n) for n in loaded.notes]})
        return
    print_table(name, ["what", "count"], list(loaded.counts().items()))
    if loaded.notes:
        print_table(
            "notes",
            ["what", "record", "field", "value", "why"],
            [(n.kind, n.record, n.field, n.value, n.why) for n in loaded.notes],
        )


@app.command()
def validate(name: Name, file: LocalFile = None, json: AsJson = False) -> None:
    """Check a dataset: its files are there and the registry's, every record can be read; exit status 1 if not.

    A record that cannot be used is named with its file, place and field (exit status 2).

    \b
    Examples:
      smartmem data validate locomo
      smartmem data validate longmemeval-s --file longmemeval_s.json --json
    """
    from smartmem.evaluation.datasets import registry

    states = registry.validate(name, file)
    lacking = [state for state in states if state.state in ("missing", "wrong hash")]
    # A file of the user's own is read whatever its hash: its records are what they ask about.
    readable = not lacking or (file is not None and all(state.state != "missing" for state in states))
    loaded = registry.load_dataset(name, file) if readable else None
    if json:
        counts = loaded.counts() if loaded else {}
        notes = [dataclasses.asdict(note) for note in loaded.notes] if loaded else []
        print_json(
            {
                "name": name,
                "ok": not lacking,
                "files": [dataclasses.asdict(state) for state in states],
                "counts": counts,
                "notes": notes,
            }
        )
    else:
        for state in states:
            say(f"{state.path or state.name}: {state.state}")
        if loaded:
            say(_read(loaded.counts()))
        if lacking:
            say(f"next: {_mend(name, lacking[0], file)}")
    if lacking:
        raise typer.Exit(NOT_PASSED)


def _mend(name: str, state: FileState, given: Path | None) -> str:
    """What helps. Nobody is told to delete a file: it may be the only copy of the user's own."""
    if state.state == "missing":
        return f"`smartmem data get {name}`, or name your file with --file"
    if given is None:
        return f"move {state.path} away and run `smartmem data get {name}`, or name the file that you mean with --file"
    return (
        f"{state.path} is another file than the registry's {name} (SHA-256 {state.sha256}); if it is the one you mean, "
        f'a suite takes it: datasets = [{{ name = "{name}", path = "{given}" }}]'
    )


def _read(counts: Mapping[str, int]) -> str:
    figures = {key: f"{value:,}" for key, value in counts.items()}
    return (
        "read {conversations} conversations, {sessions} sessions, {turns} turns and {queries} questions "
        "({eligible} with gold); repaired {repaired}, refused {refused}, corrected {corrected}".format(**figures)
    )


@app.command()
def template(file: Annotated[Path, typer.Argument(help="where to write the example")]) -> None:
    """Write an example of the JSONL format for your own conversations.

    \b
    Example:
      smartmem data template chats.jsonl
    """
    from smartmem.evaluation.datasets.template import write_template

    say(f"wrote {write_template(file)}; next: smartmem import {file}")
