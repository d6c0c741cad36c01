"""What README.md and docs/ tell a reader to type works, in the order in which they tell it, in an empty folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.docs import ROOT, Block, blocks, files

PAGES = {file.relative_to(ROOT).as_posix(): list(blocks(file)) for file in files()}
LEFT_OUT = [block for page in PAGES.values() for block in page if block.skip]
EXPORTS = ".exports"
# What stands in the docs for a site's own server.
_DATABASE = re.compile(r"mysql\+pymysql://[^\s\"'@]*@db\.example[^\s\"']*")


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(name, id=name, marks=[pytest.mark.mariadb] if any(b.server for b in page) else [])
        for name, page in PAGES.items()
        if any(not block.skip for block in page)
    ],
)
def test_blocks_of_a_page_run(page: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    said = ""
    for block in PAGES[page]:
        if block.language == "python":
            said = f"{said}\n{block.text}" if block.goes_on else block.text
            block = replace(block, text=said)
        if not block.skip:
            run(block, tmp_path, request)


@pytest.mark.parametrize("block", [pytest.param(block, id=block.where) for block in LEFT_OUT])
def test_left_out(block: Block) -> None:
    pytest.skip(f"{block.where}: {block.skip}")


def run(block: Block, folder: Path, request: pytest.FixtureRequest) -> None:
    text = block.script
    if block.server:
        url = request.getfixturevalue("mariadb_url")
        text = _DATABASE.sub(lambda _: url, text)
    assert not _DATABASE.search(text), f"{block.where} names a server: mark it `run: with mariadb` or `skip because`"
    if block.save:
        target = folder / block.save
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, "utf-8")
        return
    if block.language == "python":
        command = [sys.executable, "-W", "error", "-c", text]
    else:
        # What a block exports lasts, as it would in the reader's shell.
        keep = f"if [ -f {EXPORTS} ]; then . ./{EXPORTS}; fi\n{text}\n{{ unset OLDPWD; declare -px; }} > {EXPORTS}\n"
        command = ["bash", "-eu", "-o", "pipefail", "-c", keep]
    done = subprocess.run(
        command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == block.status, f"{block.where} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr, f"{block.where}\n{done.stderr}"


def environment() -> dict[str, str]:
    """This environment without settings of its own; the project's commands come first."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SMARTMEM_")}
    kept |= {name: value for name, value in os.environ.items() if name in ("SMARTMEM_CACHE", "SMARTMEM_MODELS")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**kept, "PATH": path, "HF_HUB_OFFLINE": "1", "MPLBACKEND": "agg", "PYTHONPATH": ""}
