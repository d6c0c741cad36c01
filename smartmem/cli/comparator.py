"""comparator: hold comparators against labelled histories, and tune the `encoder` comparator on your own."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from smartmem.cli.cards import card, write_card
from smartmem.cli.common import AsJson, print_json, print_table, say
from smartmem.cli.parts import Part, spec

if TYPE_CHECKING:
    from smartmem.evaluation.histories import HistoriesReport
    from smartmem.memory.histories import History

app = typer.Typer(
    no_args_is_help=True,
    help="What later messages do to earlier memories: measure comparators, tune your own (docs/decisions.md).",
)
Files = Annotated[list[Path], typer.Argument(help="labelled histories: data/changes/README.md")]


@app.command("eval")
def measure(
    files: Files,
    comparator: Part = "encoder",
    limit: Annotated[int, typer.Option("--limit", min=1, help="memories that a statement is compared with")] = 10,
    json: AsJson = False,
) -> None:
    """Each statement of the histories against its person's memories: which decision follows, and is it the right one?

    \b
    Examples:
      smartmem comparator eval data/changes/*.txt
      smartmem comparator eval mine.txt --comparator 'encoder adapter=my.safetensors' --json
    """
    from smartmem.evaluation.histories import evaluate_histories
    from smartmem.memory.comparators import create_comparator

    report = evaluate_histories(create_comparator(spec(comparator)), _read(files), limit=limit)
    if json:
        print_json({"comparator": comparator, **dataclasses.asdict(report)})
        return
    _shown(f"decisions of {comparator}", report)


@app.command()
def tune(
    files: Files,
    into: Annotated[Path, typer.Option("--into", help="the file to write, with a card beside it")],
    epochs: Annotated[
        int | None, typer.Option("--epochs", min=1, help="how often each pair is read, if not as for the package's own")
    ] = None,
) -> None:
    """Tune the encoder of the `encoder` comparator: nine tenths of the histories teach it, the last tenth says what it
    is worth.

    Needs the extra `tune`, and `smartmem models get multilingual-e5-small`. The project's 326 histories take some
    20 minutes on two cores.

    \b
    Examples:
      smartmem comparator tune data/changes/*.txt mine.txt --into my.safetensors
      smartmem eval memory --comparator 'encoder adapter=my.safetensors'
    """
    from smartmem.evaluation.cross_validation import one_in
    from smartmem.evaluation.histories import evaluate_histories
    from smartmem.memory import compare_tuning
    from smartmem.memory.comparators import create_comparator
    from smartmem.rag.recipes import learn

    histories = _read(files)
    taught, kept = one_in(histories, lambda one: one.statements[0].text if one.statements else one.place)
    epochs = epochs or compare_tuning.EPOCHS
    compare_tuning.tune(taught, into, epochs=epochs)
    ours = create_comparator({"name": "encoder", "adapter": str(into)})
    reports = {
        name: evaluate_histories(made, kept)
        for name, made in (("rules", create_comparator("rules")), ("encoder", ours))
    }
    statements = sum(len(one.statements) for one in kept)
    told = card(files, sum(len(one.statements) for one in taught)) | {
        "epochs": epochs,
        "rank": learn.RANK,
        "rate": learn.RATE,
    }
    for name, report in reports.items():
        told[f"held_out, {name}"] = {"statements": statements, **_figures(report)}
        _shown(f"{name}: {statements} statements that the encoder has not read", report)
    write_card(into.with_suffix(".json"), told)
    say(f"wrote {into} and its card; use it with --comparator 'encoder adapter={into}'")


def _read(files: list[Path]) -> list[History]:
    from smartmem.memory.histories import read_histories

    return [one for file in files for one in read_histories(file)]


def _figures(report: HistoriesReport) -> dict[str, float]:
    shares = {"decisions": report.decisions, "ended": report.ended, "kept": report.kept, **report.by}
    return {name: round(share.value, 3) for name, share in shares.items()}


def _shown(title: str, report: HistoriesReport) -> None:
    rows = [(name, share.right, share.of, round(share.value, 3)) for name, share in report.by.items()]
    rows.append(("all", report.decisions.right, report.decisions.of, round(report.decisions.value, 3)))
    print_table(title, ["what the statement does", "right", "of", "share"], rows)
    say(
        f"memories that should end and do {report.ended.value:.3f} of {report.ended.of}; "
        f"statements that end none, rightly {report.kept.value:.3f} of {report.kept.of}"
    )
