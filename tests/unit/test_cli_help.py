"""Every command explains itself, with an example that names it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import typer.main

from smartmem.cli.app import app


def commands() -> Iterator[tuple[str, object]]:
    def walk(group: object, path: tuple[str, ...]) -> Iterator[tuple[str, object]]:
        for name, command in sorted(group.commands.items()):  # type: ignore[attr-defined]
            here = (*path, name)
            if hasattr(command, "commands"):
                yield from walk(command, here)
            else:
                yield " ".join(here), command

    return walk(typer.main.get_command(app), ())


@pytest.mark.parametrize(("path", "command"), [pytest.param(p, c, id=p) for p, c in commands()])
def test_help_has_an_example(path: str, command: object) -> None:
    text = command.help or ""  # type: ignore[attr-defined]
    assert "Example" in text, f"{path}: no example"
    assert f"smartmem {path}" in text, f"{path}: its example calls something else"
    for option in command.params:  # type: ignore[attr-defined]
        assert option.help, f"{path} {option.name}: no help"


# Rooms whose commands work on files, models or the web.
ELSEWHERE = ("models", "data", "rag", "eval", "tagger", "comparator", "web")


@pytest.mark.parametrize("path", [p for p, _ in commands() if p.split()[0] not in ELSEWHERE])
def test_commands_on_a_database_take_its_url(path: str) -> None:
    if path == "demo":  # makes a database of its own
        return
    command = dict(commands())[path]
    assert "database" in {option.name for option in command.params}  # type: ignore[attr-defined]
