"""Figures in the house style: fixed size, colour-blind safe, labels that no font turns into boxes."""

from __future__ import annotations

import base64
import functools
import io
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smartmem.errors import ConfigError, MissingExtra

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STYLE = Path(__file__).with_name("smartmem.mplstyle")
# Fonts with Chinese characters, by what usually comes with Linux, macOS and Windows.
_CJK_FONTS = (
    "Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "WenQuanYi Micro Hei", "WenQuanYi Zen Hei",
    "PingFang SC", "Hiragino Sans GB", "Microsoft YaHei", "SimHei", "Droid Sans Fallback", "AR PL UMing CN",
)  # fmt: skip
_BASE_FONT = "DejaVu Sans"  # comes with matplotlib
FONT_VARIABLE = "SMARTMEM_FONT"


def _matplotlib() -> Any:
    try:
        import matplotlib
    except ImportError:
        raise MissingExtra("matplotlib", "eval") from None
    return matplotlib


@functools.cache
def cjk_font() -> str | None:
    """The name of a font with Chinese characters: the file that SMARTMEM_FONT names, else an installed one, or None.

    Raises `ConfigError` when that file is no font.
    """
    _matplotlib()
    from matplotlib import font_manager

    # Many a CJK font has one weight, and is told of for each bold title.
    logging.getLogger(font_manager.__name__).addFilter(lambda record: "find font weight" not in record.getMessage())
    if file := os.environ.get(FONT_VARIABLE):
        try:
            font_manager.fontManager.addfont(file)
            return font_manager.FontProperties(fname=file).get_name()
        except (OSError, RuntimeError) as error:
            raise ConfigError(
                f"{FONT_VARIABLE} = {file!r} is no font file: {error}; name a .ttf, .otf or .ttc"
            ) from None
    installed = {font.name for font in font_manager.fontManager.ttflist}
    return next((name for name in _CJK_FONTS if name in installed), None)


@functools.cache
def _charmap(family: str) -> frozenset[int]:
    from matplotlib import font_manager, ft2font

    return frozenset(ft2font.FT2Font(font_manager.findfont(family)).get_charmap())


def label(text: str, width: int = 28) -> str:
    """`text` as the fonts of this machine can draw it, at most `width` characters.

    Without a CJK font a run of characters that would come out as boxes becomes `(zh)`; ids and figures stay readable.
    """
    known = _charmap(_BASE_FONT) | (_charmap(font) if (font := cjk_font()) else frozenset())
    out: list[str] = []
    for character in " ".join(text.split()):
        if ord(character) in known:
            out.append(character)
        elif not out or out[-1] != "(zh)":
            out.append("(zh)")
    made = "".join(out)
    return made if len(made) <= width else made[: width - 1] + "…"


def labels(texts: Sequence[str], width: int = 28) -> list[str]:
    """Labels that stay different from one another; what became equal gets a number."""
    made: list[str] = []
    for text in texts:
        short = label(text, width)
        made.append(short if short not in made else f"{short} {len(made) + 1}")
    return made


@contextmanager
def figure(rows: int = 1, columns: int = 1, *, size: tuple[float, float] | None = None) -> Iterator[tuple[Figure, Any]]:
    """A figure in the house style with its axes, closed afterwards. `size` is in inches.

    with figure() as (fig, ax):
        recall_curves(ax, curves)
        png = to_png(fig)
    """
    matplotlib = _matplotlib()
    from matplotlib.figure import Figure as Made

    families = [_BASE_FONT, font] if (font := cjk_font()) else [_BASE_FONT]
    with matplotlib.rc_context(fname=STYLE), matplotlib.rc_context({"font.family": families}):
        # Not pyplot: that one keeps every figure alive and picks a window system.
        made = Made(figsize=size) if size else Made()
        axes: Any = made.subplots(rows, columns)
        yield made, axes


def to_png(fig: Figure) -> bytes:
    """The figure as PNG without creation date, so that the same figure gives the same bytes."""
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def data_uri(png: bytes) -> str:
    """For an `<img>` that needs no second file."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def colours(ax: Axes) -> list[str]:
    """The palette of the figure's style."""
    matplotlib = _matplotlib()
    cycle: list[str] = matplotlib.rcParams["axes.prop_cycle"].by_key()["color"]
    return cycle
