"""The report: what stands in it, that it escapes what it shows, and how a browser sees it."""

import datetime as dt
import re
from pathlib import Path

import pandas as pd
import pytest

from smartmem.evaluation.report import findings, write_report
from smartmem.evaluation.results import RunResult
from smartmem.evaluation.runner import run_suite
from smartmem.evaluation.write_path import WritePath, write_path
from tests.support.browser import measure, needs_browser
from tests.support.evaluation import small_suite


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def result(cache: Path) -> RunResult:
    arms = [
        {"name": "mock", "embedder": {"name": "mock", "dim": 16}, "retriever": "dense"},
        {"name": "bm25", "retriever": "bm25"},
        {"name": "failing <b>&", "retriever": {"name": "test-flaky", "word": "the"}},
        {"name": "missing", "retriever": "psychic"},
    ]
    return run_suite(small_suite(cache, arms=arms, title="小 suite <script>alert(1)</script>"))


@pytest.fixture(scope="module")
def jobs() -> WritePath:
    rows = []
    for job in range(20):
        rows.append((job, "pending", job * 0.1))
        rows.append((job, "processing", job * 0.1 + 0.05))
        if job % 5 == 0:
            rows.append((job, "failed", job * 0.1 + 0.06))
            rows.append((job, "processing", job * 0.1 + 1.06))
        rows.append((job, "dead" if job == 10 else "success", job * 0.1 + 1.2))
    return write_path(
        pd.DataFrame(rows, columns=["job_id", "to_status", "at"]),
        pd.DataFrame({"message_at": [0.0, 1.0, 2.0], "memory_at": [0.5, 2.5, float("nan")]}),
    )


@pytest.fixture(scope="module")
def report(result: RunResult, jobs: WritePath, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(result, tmp_path_factory.mktemp("report"), jobs)


def test_findings_are_sentences_with_figures(result: RunResult) -> None:
    lines = findings(result)
    assert lines[0].startswith("smartmem-tiny: best by nDCG@10 is bm25 with 0.")
    assert "[0." in lines[0]
    assert any("missing could not run" in line and "psychic" in line for line in lines)


def test_the_page_holds_everything_and_asks_for_nothing(report: Path, result: RunResult) -> None:
    page = report.read_text("utf-8")
    assert not re.search(r'(?:src|href|srcset)="(?!data:|#)', page)
    assert "<script>alert" not in page
    assert "<b>&" not in page
    for text in ("Write path", "TransientModelError", "psychic", "Holm p", "ineligible", "By category".lower()):
        assert text in page, text
    assert page.count("data:image/png;base64,") >= 14
    assert len(page) < 3_000_000
    markdown = (report.parent / "report.md").read_text("utf-8")
    for name in re.findall(r"\]\((charts/[^)]+)\)", markdown):
        assert (report.parent / name).stat().st_size > 2000
    for line in markdown.splitlines():
        if line.startswith("| bm25 |") and "/" in line:
            assert line.count("|") == markdown.split("| arm |")[1].split("\n")[0].count("|") + 2
            break


def test_the_page_tells_what_was_timed_and_what_could_tell_nothing(cache: Path, tmp_path: Path) -> None:
    """Of a small file of one's own, fewer queries are timed than the suite would take."""
    changes = {"limit_queries": 2, "metrics": ["nDCG@10", "session:recall@20"]}
    pages = [
        write_report(run_suite(small_suite(cache, latency_queries=n, **changes)), tmp_path / str(n)).read_text("utf-8")
        for n in (40, 0)
    ]
    assert re.findall(r"Milliseconds: ([^,]+),", pages[0]) == ["2 queries"]
    assert "Milliseconds" not in pages[1]
    assert "session:recall@20 tells nothing of 2 queries" in pages[0]


def test_the_write_path_counts_what_happened(jobs: WritePath) -> None:
    assert (jobs.jobs, jobs.dead, jobs.retries) == (20, 1, 4)
    assert jobs.by_state["success"] == 19
    assert jobs.message_to_memory_s["p50"] == pytest.approx(1.0)
    assert jobs.job_latency_s["p50"] == pytest.approx(1.2)
    totals = [sum(jobs.series[s][i] for s in jobs.by_state) for i in range(len(jobs.series["seconds"]))]
    assert totals == sorted(totals)
    assert totals[-1] == 20


@pytest.mark.parametrize("form", ["datetime", "text", "timestamp"])
def test_the_write_path_takes_times_in_each_form_that_frames_have(form: str) -> None:
    at: object = [dt.datetime(2026, 1, 1, tzinfo=dt.UTC), dt.datetime(2026, 1, 1, 0, 0, 2, 500_000, tzinfo=dt.UTC)]
    if form == "text":
        at = ["2026-01-01T00:00:00Z", "2026-01-01T00:00:02.5Z"]
    frame = pd.DataFrame({"job_id": [1, 1], "to_status": ["pending", "success"], "at": at})
    if form == "timestamp":
        frame["at"] = pd.to_datetime(frame["at"], utc=True)
    made = write_path(frame)
    assert made.seconds == pytest.approx(2.5)
    assert made.message_to_memory_s == {}


SCRIPT = """
const small = [...document.querySelectorAll("p, li, td, th, dd, figcaption")]
  .filter(e => e.textContent.trim() && parseFloat(window.getComputedStyle(e).fontSize) < 11).length;
const images = [...document.images];
const head = [...document.querySelectorAll("table.sortable th")].find(th => th.textContent.startsWith("nDCG@10"));
const table = head.closest("table");
const cells = () => [...table.tBodies[0].rows].map(r => r.cells[head.cellIndex].dataset.sort);
head.querySelector("button").click(); const down = cells();
head.querySelector("button").click(); const up = cells();
document.querySelectorAll("details").forEach(d => d.open = true);
const body = document.documentElement;
return { small, down, up, images: images.length, broken: images.filter(i => !i.complete || !i.naturalWidth).length,
         narrow: images.filter(i => i.currentSrc !== i.src).length, overflow: body.scrollWidth - body.clientWidth,
         width: body.clientWidth, widest: Math.max(...images.map(i => i.getBoundingClientRect().width)),
         h1: document.querySelector("h1").textContent };
"""


@needs_browser
@pytest.mark.parametrize("width", [1280, 390])
def test_a_browser_shows_it_at_desk_and_telephone_width(report: Path, tmp_path: Path, width: int) -> None:
    found = measure(report, width=width, script=SCRIPT, folder=tmp_path)
    assert found.console == []
    assert found.requests == []
    page = found.value
    assert page["overflow"] <= 0, "the page itself must not scroll sideways; tables do, in their frames"
    assert page["small"] == 0
    assert page["broken"] == 0
    assert page["images"] >= 8
    assert page["widest"] <= width
    assert page["narrow"] == (page["images"] if width == 390 else 0)
    assert "小 suite <script>" in page["h1"]
    known = [float(v) for v in page["down"] if v]
    assert known == sorted(known, reverse=True)
    assert [float(v) for v in page["up"] if v] == sorted(known)
    assert page["down"][-1] == page["up"][-1] == ""  # what was not measured stays last
