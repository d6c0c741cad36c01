"""Notebooks are committed with their outputs; this refuses what would make them look tested when they are not."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
MOST_CELLS = 30
MOST_LINES = 12
MOST_BYTES = 100_000
LONGEST_HEADING = 90
# A home or a temporary folder in an output is somebody's machine.
_PRIVATE = re.compile(r"(/home/|/root/|/Users/|/tmp/|/var/folders/|[A-Z]:\\\\Users)")
_NEXT = re.compile(r"\]\(([^)#\s]+\.ipynb)\)")


def complaints(notebook: dict[str, Any]) -> list[str]:
    """Everything that is wrong with a notebook, one line each."""
    cells = notebook["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    found = []
    if len(cells) > MOST_CELLS:
        found.append(f"{len(cells)} cells; at most {MOST_CELLS}")
    if notebook["metadata"].get("kernelspec", {}).get("name") != "python3":
        found.append("the kernel is not python3")
    if not code or "parameters" not in code[0]["metadata"].get("tags", []):
        found.append("the first code cell is not tagged `parameters`")
    elif "SMARTMEM_PROFILE" not in source(code[0]):
        found.append("the parameters do not read SMARTMEM_PROFILE")
    counts = [cell["execution_count"] for cell in code]
    if counts != list(range(1, len(code) + 1)):
        found.append(f"execution counts {counts}: not run once from top to bottom in a fresh kernel")
    for number, cell in enumerate(code, start=1):
        found += [f"code cell {number}: {text}" for text in of_cell(cell)]
    if not any("assert " in source(cell) for cell in code):
        found.append("no claim stands as an assert")
    if "learned" not in "".join(source(cell) for cell in cells if cell["cell_type"] == "markdown"):
        found.append("it does not say what was learned")
    headings = [line for cell in cells if cell["cell_type"] == "markdown" for line in source(cell).splitlines()]
    found += [
        f"a paragraph as a heading: {h[:60]!r}" for h in headings if h.startswith("#") and len(h) > LONGEST_HEADING
    ]
    return found


def of_cell(cell: dict[str, Any]) -> list[str]:
    found = []
    lines = source(cell).splitlines()
    if len(lines) > MOST_LINES:
        found.append(f"{len(lines)} lines; at most {MOST_LINES}: move the logic into smartmem/")
    for output in cell["outputs"]:
        size = len(json.dumps(output, ensure_ascii=False).encode())
        if size > MOST_BYTES:
            found.append(f"an output of {size:,} bytes; at most {MOST_BYTES:,}")
        if output["output_type"] == "error":
            found.append(f"an error in the outputs: {output['ename']}")
        if output.get("name") == "stderr":
            found.append(f"text on stderr: {''.join(output['text'])[:80]!r}")
        shown = json.dumps({k: v for k, v in output.get("data", {}).items() if k != "image/png"}) + str(
            output.get("text", "")
        )
        if hit := _PRIVATE.search(shown):
            found.append(f"a path of this machine in an output: {shown[hit.start() : hit.start() + 40]!r}")
    return found


def source(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_whole(path: Path) -> None:
    assert complaints(json.loads(path.read_text("utf-8"))) == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_links_lead_somewhere(path: Path) -> None:
    for target in _NEXT.findall(path.read_text("utf-8")):
        assert (FOLDER / target).is_file(), f"{path.name} links to {target}, which does not exist"


def test_nothing_else_lies_in_the_folder() -> None:
    """A run writes into temporary folders only; what lies here was left behind."""
    left = [
        p.name for p in FOLDER.iterdir() if p.suffix != ".ipynb" and p.name not in ("nbval.cfg", ".ipynb_checkpoints")
    ]
    assert left == []


def good() -> dict[str, Any]:
    return {
        "metadata": {"kernelspec": {"name": "python3"}},
        "cells": [
            cell('import os; PROFILE = os.environ["SMARTMEM_PROFILE"]', 1, tags=["parameters"]),
            cell("assert 1 + 1 == 2", 2),
            {"cell_type": "markdown", "metadata": {}, "source": "## What we learned"},
        ],
    }


def cell(text: str, count: int | None, *outputs: dict[str, Any], tags: list[str] | None = None) -> dict[str, Any]:
    return {
        "cell_type": "code",
        "metadata": {"tags": tags or []},
        "source": text,
        "execution_count": count,
        "outputs": list(outputs),
    }


def stream(text: str, name: str = "stdout") -> dict[str, Any]:
    return {"output_type": "stream", "name": name, "text": text}


def test_the_guard_lets_a_good_one_through() -> None:
    assert complaints(good()) == []


@pytest.mark.parametrize(
    ("added", "word"),
    [
        (cell("1", None), "execution counts"),
        (cell("1", 2), "execution counts"),
        (cell("x\n" * 13, 3), "13 lines"),
        (cell("1", 3, {"output_type": "error", "ename": "KeyError", "evalue": "", "traceback": []}), "KeyError"),
        (cell("1", 3, stream("x" * MOST_BYTES)), "bytes"),
        (cell("1", 3, stream("careful", "stderr")), "stderr"),
        (cell("1", 3, stream("wrote /home/anna/x")), "path of this machine"),
    ],
)
def test_the_guard_refuses(added: dict[str, Any], word: str) -> None:
    bad = good()
    bad["cells"].insert(2, added)
    assert any(word in text for text in complaints(bad)), complaints(bad)


def test_the_guard_refuses_paragraphs_that_are_headings() -> None:
    bad = good()
    bad["cells"].append({"cell_type": "markdown", "metadata": {}, "source": "# " + "many words " * 10})
    assert any("heading" in text for text in complaints(bad))


def test_the_guard_refuses_a_notebook_without_parameters_or_claims() -> None:
    bad = good()
    bad["cells"] = [cell("1", 1)] + [{"cell_type": "markdown", "metadata": {}, "source": "text"}] * MOST_CELLS
    text = "\n".join(complaints(bad))
    for word in ("parameters", "assert", "learned", "31 cells"):
        assert word in text
