"""The command line. Thin: every command opens a workbench, calls it and prints."""

from __future__ import annotations

import logging
import os
import sys

import typer

from smartmem import __version__
from smartmem.cli import (
    comparator,
    components,
    control,
    data,
    evaluate,
    letters,
    memories,
    pipeline,
    replays,
    serve,
    setup,
    tagger,
    web,
)
from smartmem.cli.common import BAD_INPUT, FAULT, INTERRUPTED, exit_status, print_error, say
from smartmem.errors import SmartMemError

app = typer.Typer(
    name="smartmem",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""Chat memory that loses nothing, and the evidence for which components recall best.

    A first run, in any folder:

    \b
      smartmem import chats.jsonl --format jsonl
      smartmem work --drain
      smartmem recall --user 1 "What may I not eat?"
    """,
)
for room in (pipeline, memories, replays, setup):
    room.add_to(app)
app.add_typer(control.app, name="memory")
app.add_typer(letters.jobs, name="jobs")
app.add_typer(letters.outbox, name="outbox")
app.add_typer(evaluate.app, name="eval")
app.add_typer(data.app, name="data")
app.add_typer(tagger.app, name="tagger")
app.add_typer(comparator.app, name="comparator")
app.add_typer(components.models, name="models")
app.add_typer(components.rag, name="rag")
app.add_typer(web.app, name="web")
app.add_typer(serve.app, name="serve")


def _version(wanted: bool) -> None:
    if wanted:
        say(f"smartmem {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="print the version"),
    verbose: bool = typer.Option(False, "--verbose", "-v", help="log to stderr"),
) -> None:
    level = logging.INFO if verbose else logging.WARNING
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s")


def main() -> None:
    """Run the command line: errors are one line on stderr and an exit status, never a traceback."""
    try:
        app()
    except SystemExit as end:
        if end.code == INTERRUPTED:
            sys.stderr.write("smartmem: stopped; what was committed is kept, the same command goes on from there\n")
        raise
    except SmartMemError as error:
        print_error(error)
        sys.exit(exit_status(error))
    except BrokenPipeError:
        # The reader (head, less) has gone; keep the interpreter from complaining again while it shuts down.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        # A folder that may not be written, a disk that is full: the machine's own words name the file.
        print_error(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        sys.exit(BAD_INPUT)
    except Exception as error:
        if logging.getLogger().isEnabledFor(logging.INFO):
            raise
        said = (str(error).strip() or "no message").splitlines()[0]
        print_error(f"{type(error).__name__}: {said}; this should not happen: --verbose before the command shows where")
        sys.exit(FAULT)
