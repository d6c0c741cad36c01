"""The pages of data/web: made-up sites with noise, copies, outdated versions and one prompt injection."""

from __future__ import annotations

import html
import string
import tomllib
from dataclasses import dataclass
from pathlib import Path

from smartmem.errors import BadRecord, ConfigError
from smartmem.shipped import shipped


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalPage:
    """One page: `id` is host and path, `paragraphs` its main text, `html` what is sent."""

    id: str
    host: str
    path: str
    title: str
    date: str
    charset: str
    paragraphs: tuple[str, ...]
    copy_of: str
    html: bytes

    @property
    def url(self) -> str:
        return f"http://{self.id}"


def data_folder() -> Path:
    """data/web of the project in the current folder, or the package's. Raises `ConfigError` where there is none."""
    if found := shipped("data/web/sites.toml"):
        return found.parent
    raise ConfigError("data/web is neither here nor in the package; run this in a clone of the project")


def load_pages(root: Path) -> dict[str, LocalPage]:
    """Every page of a folder such as data/web, by its id."""
    sites = tomllib.loads((root / "sites.toml").read_text("utf-8"))
    pages: dict[str, LocalPage] = {}
    for name, site in sites.items():
        frame = string.Template((root / "sites" / f"{site['template']}.html").read_text("utf-8"))
        for block in (root / "pages" / f"{name}.md").read_text("utf-8").split("\n%%%\n"):
            page = _page(block, site, frame)
            if page.id in pages:
                raise BadRecord(f"{root}/pages/{name}.md: two pages at {page.id}")
            pages[page.id] = page
    return pages


def _page(block: str, site: dict[str, str], frame: string.Template) -> LocalPage:
    head, _, body = block.strip().partition("\n\n")
    fields = dict(line.split(": ", 1) for line in head.splitlines())
    charset = fields.get("charset", "utf-8")
    paragraphs = tuple(p.strip() for p in body.split("\n\n"))
    rendered = frame.substitute(
        title=html.escape(fields["title"]),
        name=site["name"],
        date=fields["date"],
        charset=charset,
        body="\n".join(_element(p) for p in paragraphs),
    )
    return LocalPage(
        id=f"{site['host']}{fields['path']}",
        host=site["host"],
        path=fields["path"],
        title=fields["title"],
        date=fields["date"],
        charset=charset,
        paragraphs=tuple(p for p in paragraphs if not p.startswith("## ")),
        copy_of=fields.get("copy_of", ""),
        html=rendered.encode(charset, "xmlcharrefreplace"),
    )


def _element(paragraph: str) -> str:
    if paragraph.startswith("## "):
        return f"<h2>{html.escape(paragraph[3:])}</h2>"
    return f"<p>{html.escape(paragraph, quote=False)}</p>"
