"""The live view of job states: it only looks, it ends, and it falls back to text."""

from __future__ import annotations

import io
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from nbclient import NotebookClient

from smartmem.errors import StoreUnavailable
from smartmem.viz.live import LiveStates, as_html, as_text, live_states
from tests.support.net import poll


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def watchers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "smartmem-live"]


def test_states_stand_in_the_order_of_a_jobs_life() -> None:
    assert as_text({"success": 7, "dead": 0, "pending": 3, "odd": 1}) == "pending 3, success 7, odd 1"
    assert as_text({}) == "no jobs"
    assert 'aria-label="pending 3"' in as_html({"pending": 3})
    assert "<b>" not in as_html({"<b>": 1})


def test_off_a_terminal_one_line_at_the_end() -> None:
    out, counts = io.StringIO(), {"pending": 2}
    with live_states(lambda: counts, every_s=0.005, stream=out) as live:
        assert poll(lambda: live.looks > 2, seconds=5)
        counts = {"success": 2}
    assert out.getvalue() == "success 2\n"
    assert watchers() == []


def test_on_a_terminal_the_line_is_written_over() -> None:
    out = Terminal()
    with live_states(lambda: {"pending": 1}, every_s=0.005, stream=out) as live:
        assert poll(lambda: live.looks > 1, seconds=5)
    assert out.getvalue().count("\r") == live.looks
    assert out.getvalue().endswith("pending 1\n")


def test_a_database_that_is_away_is_shown_and_asked_again() -> None:
    out = Terminal()
    answers = iter([StoreUnavailable("the database is away")])

    def source() -> dict[str, int]:
        for error in answers:
            raise error
        return {"success": 1}

    with live_states(source, every_s=0.005, stream=out) as live:
        assert poll(lambda: bool(live.last), seconds=5)
    assert "the database is away" in out.getvalue()
    assert live.last == {"success": 1}


def test_it_ends_when_the_work_fails() -> None:
    with pytest.raises(KeyError), live_states(dict, every_s=0.005, stream=io.StringIO()):
        raise KeyError("work")
    assert watchers() == []


def test_in_a_kernel_it_is_a_widget(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[object] = []
    box = SimpleNamespace(value="", close=lambda: shown.append("closed"))

    def put(what: object, *, display_id: bool) -> object:
        shown.append(what)
        return SimpleNamespace(update=shown.append)

    display = SimpleNamespace(display=put, HTML=lambda html: html)
    shell = SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell, display=display))
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    monkeypatch.setitem(sys.modules, "ipywidgets", SimpleNamespace(HTML=lambda value: box))
    with LiveStates(lambda: {"success": 4}, every_s=60):
        pass
    assert shown == [box, box.value, "closed"], "the widget is replaced by what it showed last"
    assert "success 4" in box.value


def test_without_ipywidgets_a_kernel_gets_text(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=object())))
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    with LiveStates(lambda: {"success": 4}, every_s=60):
        pass
    assert capsys.readouterr().err == "success 4\n"


def test_a_notebook_stays_usable_while_work_goes_on(tmp_path: Path) -> None:
    """In a real kernel: messages become memories by themselves, the live view ends as plain HTML, nothing is left."""
    cells = [
        f"import threading, time, smartmem\nwb = smartmem.open('sqlite:///{tmp_path}/live.db', embedder={{'name': 'mock'}})",
        "work = wb.start()\n"
        "wb.append(user_id=1, conversation_id='c', role='user', content='I am allergic to peanuts, please remember that.')\n"
        "while not wb.memories(1).total: time.sleep(0.02)\n"
        "assert work.running\nwork",
        "with wb.live(every_s=0.02):\n    wb.drain()",
        "assert work.stop().dead == 0 and not work.running\n"
        "wb.close()\n"
        "[thread.name for thread in threading.enumerate() if thread.name.startswith(('smartmem', 'relay'))]",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, timeout=120, store_widget_state=False).execute()
    shown = [output["data"] for cell in notebook.cells for output in cell.outputs if "data" in output]
    assert shown[0]["text/html"].startswith("<p>working</p>")
    assert 'aria-label="success 2"' in shown[1]["text/html"]
    assert "application/vnd.jupyter.widget-view+json" not in shown[1], "a widget is empty in a notebook that is opened again"
    assert shown[2]["text/plain"] == "[]"
