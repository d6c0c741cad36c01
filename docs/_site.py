"""What the site shows beside docs/: files that pages link to, notebooks, the command line's reference.

An mkdocs hook (`mkdocs.yml`). The made pages live in the build only, so that they can't differ from their sources.
"""

from __future__ import annotations

import html
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
from mkdocs.structure.files import File, Files
from nbconvert import MarkdownExporter
from pygments.formatters import HtmlFormatter

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
# Pages that lie outside docs/; a link to one of them leads to its copy on the site.
OUTSIDE = {
    "README.md": "start.md",  # as README it would take index.html
    **{
        name: name
        for name in (
            "CONTRIBUTING.md",
            "LICENSE",
            "data/tiny/README.md",
            "data/labelled/README.md",
            "data/changes/README.md",
            "tests/heldout/README.md",
            "eval/reports/example/report.md",
        )
    },
}
PICTURES = "eval/reports/example/charts"
_LINK = re.compile(r"(?<=\]\()(?!\w+:|#)(?P<target>[^)\s#]+)(?P<anchor>#[^)\s]*)?(?=\))")
_BLOCK = re.compile(r"(?ms)^ *```.*?^ *```$")


def on_config(config: Any) -> Any:
    """Fill in the patterns of `nav`."""

    def filled(part: Any) -> Any:
        if isinstance(part, dict):
            return {name: filled(inner) for name, inner in part.items()}
        if isinstance(part, list):
            return [filled(inner) for inner in part]
        if not part.endswith("/*.md"):
            return part
        folder = part.partition("/")[0]
        found = (ROOT / folder).glob("*.ipynb") if folder == "notebooks" else (DOCS / folder).glob("*.md")
        return sorted(f"{folder}/{path.stem}.md" for path in found)

    config.nav = filled(config.nav)
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add what is made, under the path that it has in the repository."""
    made: dict[str, str | bytes] = {"cli.md": command_line(), "code.css": colours()}
    for name, place in OUTSIDE.items():
        made[place] = (ROOT / name).read_text("utf-8")
    for picture in (ROOT / PICTURES).glob("*.png"):
        made[f"{PICTURES}/{picture.name}"] = picture.read_bytes()
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        text, pictures = notebook(path)
        made[f"notebooks/{path.stem}.md"] = text
        made |= {f"notebooks/{name}": png for name, png in pictures.items()}
    for place, content in sorted(made.items()):
        files.append(File.generated(config, place, content=content))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Links as they are right in the repository become right on the site, where docs/ is the top."""
    source = page.file.src_uri
    if source == "cli.md":
        return markdown
    original = {place: ROOT / name for name, place in OUTSIDE.items()}.get(source)
    here = (original or (ROOT if source.startswith("notebooks/") else DOCS) / source).parent

    def moved(found: re.Match[str]) -> str:
        target = (here / found["target"]).resolve()
        inside = target.relative_to(DOCS if target.is_relative_to(DOCS) else ROOT).as_posix()
        inside = re.sub(r"\.ipynb$", ".md", OUTSIDE.get(inside, inside))
        return f"{'../' * source.count('/')}{inside}{found['anchor'] or ''}"

    kept: list[str] = []

    def put_away(found: re.Match[str]) -> str:
        kept.append(found[0])
        return f"\0{len(kept) - 1}\0"

    prose = _LINK.sub(moved, _BLOCK.sub(put_away, markdown))
    return re.sub("\0(\\d+)\0", lambda found: kept[int(found[1])], prose)


def colours() -> str:
    """Colours of code, light and dark."""
    light, dark = HtmlFormatter(style="default"), HtmlFormatter(style="github-dark")
    rules = light.get_style_defs(".highlight"), dark.get_style_defs('[data-bs-theme="dark"] .highlight')
    return "\n".join((*rules, "img { max-width: 100% }", ".table-scroll { overflow-x: auto }"))


def notebook(path: Path) -> tuple[str, dict[str, bytes]]:
    """A committed notebook with its outputs as Markdown, and its pictures by name."""
    exporter = MarkdownExporter()  # type: ignore[no-untyped-call]
    resources = {"unique_key": path.stem, "output_files_dir": f"{path.stem}_files"}
    text, made = exporter.from_notebook_node(nbformat.read(path, as_version=4), resources=resources)  # type: ignore[no-untyped-call]
    text = re.sub(r"(?s)<style.*?</style>\n*", "", text)  # pandas' own would reach the whole page
    return text, made["outputs"]


def command_line() -> str:
    """Every command with its options, from the program itself."""
    command = [sys.executable, "-m", "typer", "smartmem.cli.app", "utils", "docs", "--name", "smartmem"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)  # noqa: S603 - our own words
    # Typer escapes for HTML and leaves examples as running text; here both are code.
    text = re.sub(r"(?m)^((?:  \S.*\n)+)", lambda m: f"\n```bash\n{html.unescape(m[1])}```\n", done.stdout)
    return f"# Command line\n\n{text.partition(chr(10))[2]}"
