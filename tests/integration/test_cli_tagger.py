"""A tagger is trained and measured from the command line, and bad input is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.cli import Cli

LINES = "{p:zorks are the best} today\nthe zorks left\n" * 15


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.txt").write_text(LINES, "utf-8")
    return Cli(capsys)


def test_a_tagger_of_ones_own_is_trained_measured_and_used(cli: Cli, tmp_path: Path) -> None:
    said = cli.ok("tagger", "train", "mine.txt", "--into", "my", "--folds", "3").out
    assert "3 folds over 30 messages" in said
    card = json.loads((tmp_path / "my" / "card.json").read_text("utf-8"))
    assert card["cross_validated"]["by"]["en"] == {"precision": 1, "recall": 1, "f1": 1, "gold": 15, "found": 15}
    assert sorted(path.name for path in (tmp_path / "my").iterdir()) == ["card.json", "en.crfsuite"]
    read = ("eval", "memory", "--labelled", "mine.txt", "--json", "--extractor")
    own, packaged = cli.ok(*read, "tagger models=my").json, cli.ok(*read, "tagger").json
    assert own["extraction"]["f1"]["value"] == 1
    assert packaged["extraction"]["f1"]["value"] < 1
    assert (own["of"], own["decisions"], own["state"]) == ("labelled messages", None, None)


@pytest.mark.parametrize(
    ("text", "more", "named"),
    [
        (LINES, ("--folds", "9"), "9 folds of 3 blocks of messages; take 2 to 3"),
        (LINES, ("--folds", "1"), "1 folds of 3 blocks"),
        ("I {q:live} here\n", (), "mine.txt:1: '{q:live}' is no label"),
        ("", ("--folds", "0"), "there is no labelled message to train on"),
        ("{f:我住在成都}\n" + LINES, ("--folds", "2"), "all messages in zh are in one fold"),
    ],
)
def test_bad_input_is_named_and_nothing_is_written(
    cli: Cli, tmp_path: Path, text: str, more: tuple[str, ...], named: str
) -> None:
    (tmp_path / "mine.txt").write_text(text, "utf-8")
    ran = cli("tagger", "train", "mine.txt", "--into", "my", *more)
    assert ran.status == 2
    assert named in ran.err
    assert not (tmp_path / "my").exists()


@pytest.mark.parametrize(
    ("lines", "named"),
    [(5, "1 blocks of messages are too few to keep a share of 1 in 10 back"), (0, "0 blocks of messages are too few")],
)
def test_an_encoder_is_not_tuned_on_next_to_nothing(cli: Cli, tmp_path: Path, lines: int, named: str) -> None:
    (tmp_path / "few.txt").write_text("{p:zorks are the best} today\n" * lines, "utf-8")
    ran = cli("tagger", "tune", "few.txt", "--into", "my.safetensors")
    assert (ran.status, (tmp_path / "my.safetensors").exists()) == (2, False)
    assert named in ran.err
