"""Every notebook, opened in JupyterLab in a real browser and run from top to bottom."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.notebooks.test_guard import FOLDER, NOTEBOOKS
from tests.support.browser import needs_browser
from tests.support.lab import Page, browser, jupyter_lab

RUN_S = 240.0
# Outputs are cleared first: the committed ones would pass for those of this run.
_OPEN = """(async () => {
  const app = window.jupyterapp;
  await app.restored;
  const panel = window.panel = await app.commands.execute("docmanager:open", {path: %s, factory: "Notebook"});
  await panel.context.ready;
  await panel.revealed;
  await panel.sessionContext.ready;
  app.shell.activateById(panel.id);
  await app.commands.execute("notebook:clear-all-cell-outputs");
  app.commands.execute("notebook:run-all-cells");
  return panel.content.model.cells.length;
})()"""
_STATE = """(() => {
  const code = [...panel.content.model.cells].filter(cell => cell.type === "code");
  const each = cell => Array.from({length: cell.outputs.length}, (_, i) => cell.outputs.get(i).toJSON());
  const outputs = code.flatMap(each);
  const errors = outputs.filter(output => output.output_type === "error").map(output => output.evalue);
  const done = code.every(cell => cell.executionCount);
  return done || errors.length ? {done, errors, counts: code.map(cell => cell.executionCount)} : null;
})()"""
_PICTURES = 'Array.from(document.querySelectorAll("#" + panel.id + " img")).filter(i => i.naturalWidth > 300).length'
_CLOSE = """(async () => {
  await panel.sessionContext.shutdown();
  await panel.context.save();
  panel.dispose();
})()"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    scratch = tmp_path_factory.mktemp("lab")
    copies = scratch / "notebooks"
    copies.mkdir()
    for notebook in NOTEBOOKS:
        shutil.copy(notebook, copies)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("SMARTMEM_PROFILE", "ci")
        # Kernels run in a copy of the folder: they find the data beside the installed package.
        patched.setenv("SMARTMEM_REGISTRY", str(FOLDER.parent / "data" / "registry.toml"))
        with jupyter_lab(copies, scratch) as lab, browser(scratch) as made:
            made.go(lab.url)
            made.wait(
                'typeof jupyterapp !== "undefined" && document.querySelector(".jp-Launcher, .jp-DirListing") !== null',
                60,
            )
            yield made


@needs_browser
@pytest.mark.timeout(RUN_S + 60)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs_in_a_browser(page: Page, path: Path, tmp_path: Path) -> None:
    cells = page.value(_OPEN % json.dumps(path.name))
    notebook = json.loads(path.read_text("utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert cells == len(notebook["cells"])
    state = page.wait(_STATE, RUN_S)
    assert state["errors"] == []
    assert state["counts"] == list(range(1, len(code) + 1))
    # The rendered page, not the model: a picture that the browser could not decode has no width.
    pictures = [i for i, cell in enumerate(notebook["cells"]) if "image/png" in json.dumps(cell.get("outputs", []))]
    assert pictures
    page.value(f"panel.content.scrollToItem({pictures[0]}, 'center').then(() => true)")
    page.wait(_PICTURES, 30)
    page.screenshot(tmp_path / f"{path.stem}.png")
    page.value(_CLOSE)
