"""tagger: train the `tagger` and the `encoder` extractor on labelled messages of your own."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from smartmem.cli.cards import card, write_card
from smartmem.cli.common import print_table, say
from smartmem.errors import needs

if TYPE_CHECKING:
    from smartmem.evaluation.memory_quality import ExtractionReport

app = typer.Typer(
    no_args_is_help=True,
    help="Train the extractors `tagger` and `encoder` on labelled messages (docs/extraction.md).",
)
COLUMNS = ("precision", "recall", "f1", "gold", "found")
Files = Annotated[list[Path], typer.Argument(help="labelled messages, one a line: data/labelled/README.md")]


@app.command()
def train(
    files: Files,
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
    told = card(files, count) | {"penalties": training.PENALTIES, "iterations": training.ITERATIONS}
    if folds:
        with tempfile.TemporaryDirectory() as folder:
            report = cross_validate(blocks, Path(folder), folds)
        told["cross_validated"] = {"folds": folds, **_shown(f"{folds} folds over {count} messages", report)}
    known = training.prepared(one for block in track(blocks, "read") for one in block)
    written = training.train(known, into)
    write_card(into / "card.json", told)
    names = ", ".join(path.name for path in written)
    say(f"wrote {names} and card.json; use them with --extractor 'tagger models={into}'")


@app.command()
def tune(
    files: Files,
    into: Annotated[Path, typer.Option("--into", help="the file to write, with a card beside it")],
    epochs: Annotated[
        int | None,
        typer.Option("--epochs", min=1, help="how often each message is read, if not as for the package's own"),
    ] = None,
) -> None:
    """Tune the encoder of the `encoder` extractor: nine tenths of the messages teach it, the last tenth says what it
    is worth.

    Needs the extras `tune` and `eval`, and `smartmem models get multilingual-e5-small`. Thousands of messages take
    some 20 minutes on two cores, and 5 GB of memory.

    \b
    Examples:
      smartmem tagger tune data/labelled/*.txt mine.txt --into my.safetensors
      smartmem eval memory --extractor 'encoder adapter=my.safetensors'
    """
    from smartmem.evaluation.cross_validation import held_out
    from smartmem.evaluation.datasets.labelled import labelled_gold, read_lists
    from smartmem.evaluation.memory_quality import evaluate_extraction
    from smartmem.memory.extract import create_extractor, training, tuning
    from smartmem.rag.recipes import learn

    with needs("eval"):
        import scipy  # noqa: F401 - for the figures at the end: said before half an hour of tuning, not after it
    blocks = read_lists(files)
    taught, kept = held_out(blocks)
    messages = [one for block in taught for one in block]
    epochs = epochs or tuning.EPOCHS
    tuning.tune(messages, into, epochs=epochs)
    with tempfile.TemporaryDirectory() as folder:  # the package's own field knows the messages that are kept back
        training.train(training.prepared(messages), Path(folder))
        made = create_extractor({"name": "encoder", "adapter": str(into), "models": folder})
        report = evaluate_extraction(made, labelled_gold(kept), min_confidence=0.5)
    count = sum(len(block) for block in kept)
    told = card(files, len(messages)) | {"epochs": epochs, "rank": learn.RANK, "rate": learn.RATE}
    told["held_out"] = {"messages": count, **_shown(f"{count} messages that it has not read", report)}
    write_card(into.with_suffix(".json"), told)
    say(f"wrote {into} and its card; use it with --extractor 'encoder adapter={into}'")


def _shown(title: str, report: ExtractionReport) -> dict[str, object]:
    """Print what the report says by language, and give it for the card."""
    shown = {name: {c: round(row[c], 3) for c in COLUMNS} for name, row in sorted(report.by["language"].items())}
    print_table(title, ["language", *COLUMNS], [(name, *row.values()) for name, row in shown.items()])
    say(f"messages without a fact that gave one {report.noise:.3f}")
    return {"noise": round(report.noise, 3), "by": shown}
