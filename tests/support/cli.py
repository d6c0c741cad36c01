"""Run the command line in this process, as a shell would see it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from unittest import mock

import pytest

from smartmem.cli.app import main


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command printed, and its exit status."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Cli:
    """`cli("status", "--json")`; a test that expects success uses `.ok`."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *words: object) -> Ran:
        self._capsys.readouterr()
        # A wide terminal, so that a message is not folded where a test looks for it.
        with mock.patch("sys.argv", ["smartmem", *map(str, words)]), mock.patch.dict("os.environ", COLUMNS="400"):
            try:
                main()
                status = 0
            except SystemExit as end:
                status = end.code if isinstance(end.code, int) else int(bool(end.code))
        printed = self._capsys.readouterr()
        return Ran(status, printed.out, printed.err)

    def ok(self, *words: object) -> Ran:
        ran = self(*words)
        assert ran.status == 0, ran.err or ran.out
        return ran
