"""The live view of job states: it only looks, it ends, and it falls back to text."""

from __future__ import annotations

import io
import sys
import threading
from types import SimpleNamespace

import pytest

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
    box = SimpleNamespace(value="")
    display = SimpleNamespace(display=shown.append)
    shell = SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell, display=display))
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    monkeypatch.setitem(sys.modules, "ipywidgets", SimpleNamespace(HTML=lambda value: box))
    with LiveStates(lambda: {"success": 4}, every_s=60):
        pass
    assert shown == [box]
    assert "success 4" in box.value


def test_without_ipywidgets_a_kernel_gets_text(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=object())))
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    with LiveStates(lambda: {"success": 4}, every_s=60):
        pass
    assert capsys.readouterr().err == "success 4\n"
