"""tagger: train the `tagger` extractor on labelled messages of your own."""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from smartmem.cli.common import print_table, say

app = typer.Typer(
    no_args_is_help=True, help="The `tagger` extractor: train one on labelled messages (docs/extraction.md)."
)


@app.callback()
def _group() -> None:
    """Keeps `train` a word of its own while it is the only command."""


@app.command()
def train(
    files: Annotated[list[Path], typer.Argument(help="labelled messages, one a line: data/labelled/README.md")],
    into: Annotated[Path, typer.Option("--into", help="a folder for the models")],
    folds: Annotated[int, typer.Option("--folds", min=0, help="measure by so many folds first; 0: only train")] = 5,
) -> None:
    """Train a tagger, a model a language, and say what it is worth on messages that it has not seen.

    Lines that are neighbours are never parted by a fold. Takes a few minutes with thousands of messages.

    \b
    Examples:
      smartmem tagger train mine.txt --into my-tagger
      smartmem tagger train data/labelled/*.txt mine.txt --into my-tagger --folds 0
      smartmem eval memory --extractor 'tagger models=my-tagger'
    """
    from smartmem.evaluation.cross_validation import cross_validate
    from smartmem.evaluation.datasets.labelled import read_lists
    from smartmem.memory.extract import training
    from smartmem.progress import track

    blocks = read_lists(files)
    count = sum(len(block) for block in blocks)
    card: dict[str, object] = {
        "messages": count,
        "files": {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files},
        "penalties": training.PENALTIES,
        "iterations": training.ITERATIONS,
    }
    if folds:
        with tempfile.TemporaryDirectory() as folder:
            report = cross_validate(blocks, Path(folder), folds)
        columns = ("precision", "recall", "f1", "gold", "found")
        shown = {name: {c: round(row[c], 3) for c in columns} for name, row in sorted(report.by["language"].items())}
        print_table(
            f"{folds} folds over {count} messages",
            ["language", *columns],
            [(n, *row.values()) for n, row in shown.items()],
        )
        say(f"messages without a fact that gave one {report.noise:.3f}")
        card["cross_validated"] = {"folds": folds, "noise": round(report.noise, 3), "by": shown}
    known = training.prepared(one for block in track(blocks, "read") for one in block)
    written = training.train(known, into)
    (into / "card.json").write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n", "utf-8")
    names = ", ".join(path.name for path in written)
    say(f"wrote {names} and card.json; use them with --extractor 'tagger models={into}'")
