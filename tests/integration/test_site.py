"""The site of the documentation: it builds without a warning, every link leads somewhere, no other host is asked."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.support.docs import ROOT


@dataclass
class Seen(HTMLParser):
    """What a page links to, what it loads, and the ids that can be linked to."""

    links: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.ids |= {value for name in ("id", "name") if (value := found.get(name))}
        target = found.get("href") or found.get("src")
        if target:
            (self.links if tag == "a" else self.loads).append(target)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(out)]
    done = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Seen]:
    found = {}
    for file in site.rglob("*.html"):
        if file.name != "404.html":  # made for the top of a server: its links begin with /
            found[file] = Seen()
            found[file].feed(file.read_text("utf-8"))
    return found


def test_every_link_leads_somewhere(pages: dict[Path, Seen]) -> None:
    lost = []
    for page, seen in pages.items():
        for link in (*seen.links, *seen.loads):
            if re.match(r"[a-z]+:", link):
                continue
            path, _, anchor = link.partition("#")
            target = (page.parent / path.partition("?")[0]).resolve() if path else page
            if not target.exists() or (anchor and target in pages and anchor not in pages[target].ids):
                lost.append(f"{page.name}: {link}")
    assert lost == []


def test_no_page_loads_from_another_host(pages: dict[Path, Seen]) -> None:
    assert [link for seen in pages.values() for link in seen.loads if re.match(r"(?!data:)[a-z]+:|//", link)] == []


def test_notebooks_stand_with_their_pictures(site: Path) -> None:
    names = {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert {path.stem for path in (site / "notebooks").glob("*.html")} == names
    for name in names:
        assert f'src="{name}_files/' in (site / "notebooks" / f"{name}.html").read_text("utf-8")


def test_the_command_line_is_written_out(site: Path) -> None:
    text = (site / "cli.html").read_text("utf-8")
    assert 'id="smartmem-memory-forget"' in text
    assert "&amp;quot;" not in text, "escaped twice"
