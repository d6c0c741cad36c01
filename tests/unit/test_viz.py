"""Charts draw without a warning and with labels that any font can show."""

import datetime as dt
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib
import pytest

from smartmem.errors import ConfigError
from smartmem.viz import (
    category_bars,
    differences,
    figure,
    figures,
    frontier,
    job_states,
    label,
    labels,
    latency_ecdf,
    lineage_graph,
    memory_timeline,
    metric_bars,
    recall_curves,
    to_png,
    win_loss,
)
from smartmem.viz.figures import cjk_font, colours

ROW = {"mean": 0.5, "lo": 0.4, "hi": 0.6, "queries": 9}
EMPTY = {"mean": None, "lo": None, "hi": None}
TEST = {"arm": "臂", "difference": 0.1, "lo": None, "hi": None, "p_holm": None, "wins": 3, "ties": 0, "losses": 0}
DAY = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
MANY = [f"arm {i}" for i in range(13)]
CASES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "recall": (recall_curves, ({name: [{"k": k, **ROW} for k in (1, 5, 10)] for name in MANY},)),
    "recall empty": (recall_curves, ({"a": []},)),
    "bars": (metric_bars, ({"混合 arm": ROW, "none": EMPTY}, "标题")),
    "categories": (category_bars, ({"a": {"x": ROW, "y": ROW}, "b": {"y": ROW}, "c": {}}, "t")),
    "differences": (differences, ([TEST, TEST | {"p_holm": 0.01, "lo": 0.0, "hi": 0.2}], "t")),
    "wins": (win_loss, ([TEST, TEST | {"wins": 0, "losses": 0}], "t")),
    "latency": (latency_ecdf, ({"a": [1.0, 2.0], "b": []},)),
    "frontier": (frontier, ([{"arm": "a", "ms": 1.0, "score": 0.5, "lo": None, "hi": None}], "t")),
    "jobs": (job_states, ({"seconds": [0.0, 1.0], "pending": [1.0, 0.0], "success": [0.0, 1.0]},)),
    "timeline": (
        memory_timeline,
        ([{"label": "我住在杭州", "start": DAY, "end": None, "type": "fact", "status": "active"},
          {"label": "old", "start": DAY, "end": DAY + dt.timedelta(days=9), "type": "fact", "status": "superseded"}],),
    ),
    "lineage": (
        lineage_graph,
        ([{"stage": "message", "at": DAY, "text": "我对花生过敏，" * 20}, {"stage": "job", "at": DAY, "text": ""},
          {"stage": "memory", "at": DAY, "text": "active"}, {"stage": "audit", "at": DAY, "text": "create"},
          {"stage": "audit", "at": DAY, "text": "delete"}, {"stage": "vector", "at": None, "text": "x" * 90}],),
    ),
    "lineage empty": (lineage_graph, ([],)),
    "timeline empty": (memory_timeline, ([],)),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_every_chart_draws_its_edge_cases(name: str) -> None:
    draw, arguments = CASES[name]
    with figure() as (fig, ax):
        assert draw(ax, *arguments) is ax
        png = to_png(fig)
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    assert len(png) > 2000


def test_a_lineage_has_a_box_for_each_station_and_an_arrow_to_each_but_the_first() -> None:
    steps = CASES["lineage"][1][0]
    with figure() as (_, ax):
        lineage_graph(ax, steps)
        arrows = [text for text in ax.texts if getattr(text, "arrow_patch", None)]
        words = [text.get_text() for text in ax.texts]
        assert len(ax.patches) == len(steps)
        assert len(arrows) == len(steps) - 1
    assert {step["stage"] for step in steps} <= set(words)


def test_names_of_points_stand_clear_of_points_and_of_each_other() -> None:
    """Notebook 04's arms: two within a point's width, three in one decade, one alone at the right edge."""
    at = {"bm25": (0.2, 0.71), "dense": (5.8, 0.61), "hybrid": (6.1, 0.766), "+ neighbours": (13, 0.786),
          "+ late": (15, 0.81), "+ rerank": (90, 0.77)}  # fmt: skip
    points = [{"arm": arm, "ms": x, "score": y, "lo": y - 0.05, "hi": y + 0.05} for arm, (x, y) in at.items()]
    with figure() as (fig, ax):
        frontier(ax, points, "t")
        fig.draw_without_rendering()
        boxes = {text.get_text(): text.get_window_extent() for text in ax.texts}
        centres = {arm: ax.transData.transform(place) for arm, place in at.items()}
        whole = fig.bbox
    for name, box in boxes.items():
        assert whole.x0 <= box.x0 < box.x1 <= whole.x1
        assert not [arm for arm, (x, y) in centres.items() if box.contains(x, y)], f"{name} covers a point"
        assert not [other for other in boxes if other != name and box.overlaps(boxes[other])], f"{name} covers a name"


def test_pictures_are_as_legible_on_a_dark_page_as_in_print() -> None:
    """Nothing shows through a figure, and every colour of an arm stands off its ground."""
    from matplotlib.colors import to_rgb
    from PIL import Image

    with figure() as (fig, ax):
        metric_bars(ax, {"a": ROW}, "t")
        picture = Image.open(io.BytesIO(to_png(fig))).convert("RGBA")
        palette = colours(ax)
    assert picture.getchannel("A").getextrema() == (255, 255)
    for colour in palette:
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
        light = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
        assert 1.05 / (light + 0.05) > 2, f"{colour} is too pale for a white page"


def test_the_same_figure_gives_the_same_bytes() -> None:
    images = []
    for _ in range(2):
        with figure() as (fig, ax):
            metric_bars(ax, {"a": ROW}, "t")
            images.append(to_png(fig))
    assert images[0] == images[1]


def test_labels_show_what_fonts_can_draw_and_stay_different() -> None:
    assert label("bge-small + BM25") == "bge-small + BM25"
    assert label("x" * 60, 10) == "x" * 9 + "…"
    made = labels(["用户甲 1", "用户乙 1", "user"])
    assert len(set(made)) == 3
    if cjk_font() is None:
        assert made[0] == "(zh) 1"
    else:
        assert made[0] == "用户甲 1"
    assert "👋" not in label("hello 👋")


@pytest.fixture
def fonts_anew() -> Iterator[None]:
    """The choice of a font is kept for the process: forgotten before and after."""
    forget = (cjk_font.cache_clear, figures._charmap.cache_clear)
    for clear in forget:
        clear()
    yield
    for clear in forget:
        clear()


@pytest.mark.usefixtures("fonts_anew")
def test_a_font_file_may_be_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    held = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSerif.ttf"
    monkeypatch.setenv("SMARTMEM_FONT", str(held))
    assert cjk_font() == "DejaVu Serif"
    assert label("a 用户") == "a (zh)"  # that one has no Chinese characters either
    cjk_font.cache_clear()
    (tmp_path / "no.ttf").write_text("no font", "utf-8")
    for wrong in (tmp_path / "no.ttf", tmp_path / "missing.ttf"):
        monkeypatch.setenv("SMARTMEM_FONT", str(wrong))
        with pytest.raises(ConfigError, match=r"is no font file.*name a \.ttf"):
            cjk_font()
