"""What every command shares: its options, its two ways to print, and how an error looks."""

from __future__ import annotations

import datetime as dt
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from smartmem.errors import ConfigError, ModelError, SmartMemError, StoreUnavailable
from smartmem.types import MAX_ID

if TYPE_CHECKING:
    from smartmem.workbench import Workbench

Database = Annotated[
    str | None,
    typer.Option(
        "--database",
        envvar="SMARTMEM_DATABASE_URL",
        metavar="URL",
        help="sqlite:///FILE or mysql+pymysql://USER@HOST/DB  [default: smartmem.db in this folder]",
    ),
]
SettingsFile = Annotated[
    Path | None, typer.Option("--settings", metavar="FILE", help="settings file  [default: ./smartmem.toml]")
]
AsJson = Annotated[bool, typer.Option("--json", help="print one JSON document instead of a table")]
UserId = Annotated[int, typer.Option("--user", max=MAX_ID, help="whose memories; a positive number")]

# Exit statuses; docs/operations.md lists them.
OK, NOT_PASSED, BAD_INPUT, UNAVAILABLE, FAULT, INTERRUPTED = 0, 1, 2, 3, 70, 130

console = Console(highlight=False)


@contextmanager
def workbench(database: str | None, settings: Path | None, **overrides: Any) -> Iterator[Workbench]:
    """Open the workbench for one command and close it, whatever happens."""
    from smartmem.workbench import Workbench

    bench = Workbench.open(database, settings=settings, **overrides)
    try:
        yield bench
    finally:
        bench.close()


def point_in_time(text: str) -> dt.datetime:
    """A time with its zone, or a date alone: then the end of that day, UTC, so that the day's own changes count."""
    from smartmem.clock import UTC, parse_time

    try:
        if len(text) == len("2026-01-31"):
            return dt.datetime.combine(dt.date.fromisoformat(text), dt.time.max, UTC)
        return parse_time(text)
    except ValueError as error:
        raise ConfigError(f"time {text!r}: {error}; write e.g. 2026-01-31 or 2026-01-31T09:00:00Z") from None


def print_json(value: Any) -> None:
    """Print one JSON document; times as ISO 8601, everything else by its own words."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2, default=str) + "\n")


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a table; numbers stand right, None is empty."""
    table = Table(title=title or None, title_justify="left", box=None, pad_edge=False, header_style="bold")
    listed = [list(row) for row in rows]
    for position, column in enumerate(columns):
        numeric = all(isinstance(row[position], int | float | None) for row in listed) and bool(listed)
        # An id is there to be copied: it is never folded.
        table.add_column(column, justify="right" if numeric else "left", overflow="fold", no_wrap=column == "id")
    for row in listed:
        table.add_row(*["" if cell is None else _cell(cell) for cell in row])
    console.print(table)


def print_scores(rows: Sequence[Mapping[str, Any]]) -> None:
    """A run's table, one for each dataset. States that no query is in are left out, to fit a terminal."""
    empty = {key for key in ("ineligible", "failed", "not_run") if not any(row[key] for row in rows)}
    for dataset in dict.fromkeys(row["dataset"] for row in rows):
        mine = [row for row in rows if row["dataset"] == dataset]
        figures = [key for key in mine[0] if key not in empty | {"dataset", "arm"}]
        if len(mine) <= len(figures):  # arms side by side: names of metrics are longer than their figures
            arms = [str(row["arm"]) for row in mine]
            print_table(dataset, ["", *arms], [[key, *[row[key] for row in mine]] for key in figures])
        else:
            print_table(dataset, ["arm", *figures], [[row["arm"], *[row[key] for key in figures]] for row in mine])


def _cell(value: Any) -> str:
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    return text.replace("[", r"\[")  # rich would read brackets in messages as markup


def say(text: str) -> None:
    """Print one line for people; brackets in it are text, not markup."""
    console.print(text, markup=False, soft_wrap=True)


def exit_status(error: SmartMemError) -> int:
    """3 for what may succeed later (a store or model is away), 2 for what needs another input."""
    return UNAVAILABLE if isinstance(error, StoreUnavailable | ModelError) else BAD_INPUT


def print_error(error: SmartMemError | str) -> None:
    """One line on stderr: no traceback, the message says what to do next."""
    sys.stderr.write(f"smartmem: error: {error}\n")


def pairs(mapping: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Rows of a two-column table."""
    return [(key, value) for key, value in mapping.items()]
