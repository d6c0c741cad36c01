"""The documentation is true where a machine can tell: links, names, licences, statuses."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer.main

from smartmem.cli import common
from smartmem.cli.app import app
from smartmem.evaluation.datasets.registry import list_datasets
from tests.support.docs import ROOT, blocks

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "data").rglob("*.md")])
PAGES = [page for page in PAGES if "web/pages" not in page.as_posix()]  # a made-up web, not documentation
_FENCE = re.compile(r"(?ms)^ *```.*?^ *```$")
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"(?m)^#+ +(.+?)\s*$")
_COMMAND = re.compile(r"(?<![\w./-])smartmem ((?:[a-z][a-z-]*)(?: [a-z][a-z-]*)?)")


def prose(page: Path) -> str:
    return _FENCE.sub("", page.read_text("utf-8"))


def anchors(page: Path) -> set[str]:
    """The ids that GitHub gives headings."""
    headings = (re.sub(r"[`*]", "", text).lower() for text in _HEADING.findall(prose(page)))
    return {re.sub(r"[^\w\- ]", "", text).replace(" ", "-") for text in headings}


def commands() -> dict[str, set[str]]:
    root = typer.main.get_command(app)
    return {name: set(getattr(command, "commands", {})) for name, command in root.commands.items()}  # type: ignore[attr-defined]


@pytest.mark.parametrize("page", [pytest.param(p, id=p.relative_to(ROOT).as_posix()) for p in PAGES])
def test_links_lead_somewhere(page: Path) -> None:
    for target in _LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", target):
            continue  # another site; nothing can be fetched where the tests run
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.name}: {target} leads nowhere"
        if anchor:
            assert anchor in anchors(file), f"{page.name}: {file.name} has no heading #{anchor}"


@pytest.mark.parametrize("page", [pytest.param(p, id=p.relative_to(ROOT).as_posix()) for p in PAGES])
def test_commands_exist(page: Path) -> None:
    """Also those in prose and in blocks that are not run."""
    known = commands()
    code = re.findall(r"`([^`\n]+)`", prose(page)) + [block.script for block in blocks(page)]
    for text in code:
        for found in _COMMAND.findall(text):
            first, _, second = found.partition(" ")
            assert first in known, f"{page.name}: there is no command smartmem {first}"
            if known[first] and second:
                assert second in known[first], f"{page.name}: there is no command smartmem {found}"


@pytest.mark.parametrize("page", [pytest.param(p, id=p.relative_to(ROOT).as_posix()) for p in PAGES])
def test_no_merge_was_left_half_done(page: Path) -> None:
    """A linter tells it of code; a page with both sides in it still renders, as a broken table."""
    assert re.findall(r"(?m)^(?:<{7}|={7}|>{7})(?: .*)?$", page.read_text("utf-8")) == []


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs/index.md").read_text("utf-8")
    missing = [p.name for p in (ROOT / "docs").glob("*.md") if p.name != "index.md" and f"({p.name})" not in index]
    assert missing == []


def test_decisions_that_are_named_exist() -> None:
    sources = [*PAGES, *(ROOT / "smartmem").rglob("*.py")]
    named = {name for file in sources for name in re.findall(r"adr/(\d{4}-[\w-]+\.md)", file.read_text("utf-8"))}
    assert named <= {path.name for path in (ROOT / "docs/adr").glob("*.md")}


def test_data_cards_say_what_the_registry_says() -> None:
    rows = re.findall(
        r"(?m)^\| `([\w-]+)` \| [^|]+ \| ([^|]+) \| (\w+) \|", (ROOT / "docs/data-cards.md").read_text("utf-8")
    )
    cards = {name: (licence.strip(), state) for name, licence, state in rows}
    assert cards == {name: (entry.licence, entry.format) for name, entry in list_datasets().items()}


def test_operations_lists_the_exit_statuses() -> None:
    text = (ROOT / "docs/operations.md").read_text("utf-8")
    listed = {int(number) for number in re.findall(r"(?m)^\| (\d+) \|", text.partition("## Exit statuses")[2])}
    assert listed == {
        common.OK,
        common.NOT_PASSED,
        common.BAD_INPUT,
        common.UNAVAILABLE,
        common.FAULT,
        common.INTERRUPTED,
    }
