"""Charts: functions that draw plain data on given axes and return them. Every mean stands with its interval.

Arms keep their colour, marker and line from one chart to the next: they follow the order of the mapping.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from smartmem.errors import needs
from smartmem.viz.figures import colours, label, labels
from smartmem.viz.names import write_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Row = Mapping[str, Any]
_MARKERS = "osD^vPX*"
_LINES = ("-", "--", "-.", ":")
_OUTCOMES = (("wins", "#0072B2", "white"), ("ties", "#DDDDDD", "#333333"), ("losses", "#D55E00", "white"))
STATE_COLOURS = {
    "pending": "#BBBBBB",
    "processing": "#56B4E9",
    "failed": "#E69F00",
    "success": "#009E73",
    "dead": "#000000",
}


def _look(ax: Axes, index: int) -> dict[str, Any]:
    """Colour, marker and line of the n-th arm; lines differ too, for the ninth arm has the first one's colour."""
    palette = colours(ax)
    return {
        "color": palette[index % len(palette)],
        "marker": _MARKERS[index % len(_MARKERS)],
        "linestyle": _LINES[(index // len(palette)) % len(_LINES)],
    }


def _error(mean: float, lo: float | None, hi: float | None) -> tuple[float, float]:
    """Lengths of the error bar; BCa intervals can leave the mean outside by rounding."""
    return max(0.0, mean - (mean if lo is None else lo)), max(0.0, (mean if hi is None else hi) - mean)


def _legend(ax: Axes, **options: Any) -> None:
    """A legend if anything has a label: an empty one would be a warning."""
    if "handles" in options or ax.get_legend_handles_labels()[0]:
        ax.legend(**options)


def _legend_below(ax: Axes) -> None:
    """A legend under the axes, where no curve and no bar can run through it, however many there are."""
    _legend(ax, ncols=4, loc="upper center", bbox_to_anchor=(0.5, -0.16))


def recall_curves(ax: Axes, curves: Mapping[str, Sequence[Row]], title: str = "Recall at k") -> Axes:
    """`{arm: [{"k", "mean", "lo", "hi"}]}`; the band is the interval."""
    ks: set[int] = set()
    for index, (arm, rows) in enumerate(curves.items()):
        if not rows:
            continue
        k = [row["k"] for row in rows]
        ks |= {int(value) for value in k}
        look = _look(ax, index)
        ax.plot(k, [row["mean"] for row in rows], label=label(arm), **look)
        ax.fill_between(k, [r["lo"] for r in rows], [r["hi"] for r in rows], color=look["color"], alpha=0.13, lw=0)
    if ks:
        ax.set_xscale("log")
        ax.set_xticks(sorted(ks), [str(k) for k in sorted(ks)])
        ax.minorticks_off()
    ax.set_ylim(0, 1)
    ax.set(xlabel="k", ylabel="recall@k", title=label(title, 90))
    _legend_below(ax)
    return ax


def metric_bars(ax: Axes, means: Mapping[str, Row], title: str, unit: str = "") -> Axes:
    """`{arm: {"mean", "lo", "hi"}}` as horizontal bars, the first arm on top; an arm without a mean says so."""
    names = labels(list(means))
    for index, row in enumerate(means.values()):
        look = _look(ax, index)
        if row["mean"] is None:
            ax.text(0, index, "  not measured", va="center", fontsize=8, color="#777777")
            continue
        low, high = _error(row["mean"], row["lo"], row["hi"])
        ax.barh(index, row["mean"], color=look["color"], height=0.62)
        ax.errorbar(row["mean"], index, xerr=[[low], [high]], color="#222222", capsize=3, lw=1.2)
        digits = ".3f" if abs(row["mean"]) < 10 else ",.0f"  # scores, or counts and rates
        ax.text(row["mean"] + high, index, f"  {row['mean']:{digits}}", va="center", fontsize=8)
    ax.set_yticks(range(len(names)), names)
    ax.invert_yaxis()
    ax.grid(axis="y", visible=False)
    ax.margins(x=0.14)
    ax.set_xlim(left=0)
    ax.set(title=label(title, 90), xlabel=unit)
    return ax


def category_bars(ax: Axes, bars: Mapping[str, Mapping[str, Row]], title: str) -> Axes:
    """`{arm: {category: {"mean", "lo", "hi"}}}` as groups of bars with intervals; "queries" stands below a group."""
    categories = sorted({name for rows in bars.values() for name in rows})
    width = 0.8 / max(len(bars), 1)
    for index, (arm, rows) in enumerate(bars.items()):
        at = [place for place, name in enumerate(categories) if name in rows]
        chosen = [rows[categories[place]] for place in at]
        if not chosen:
            continue
        errors = np.array([_error(row["mean"], row["lo"], row["hi"]) for row in chosen]).T
        x = np.array(at, dtype=float) - 0.4 + width * (index + 0.5)
        ax.bar(
            x, [row["mean"] for row in chosen], width * 0.92, yerr=errors, label=label(arm),
            color=_look(ax, index)["color"], error_kw={"lw": 0.9, "capsize": 1.5, "ecolor": "#222222"},
        )  # fmt: skip
    sizes = {
        name: max((r[name].get("queries", 0) for r in bars.values() if name in r), default=0) for name in categories
    }
    ax.set_xticks(
        range(len(categories)), [label(name, 16) + (f"\nn={sizes[name]}" if sizes[name] else "") for name in categories]
    )
    ax.grid(axis="x", visible=False)
    ax.set_ylim(bottom=0)
    ax.set_title(label(title, 90))
    _legend_below(ax)
    return ax


def differences(ax: Axes, rows: Sequence[Row], title: str) -> Axes:
    """Arms against the baseline: `{"arm", "difference", "lo", "hi", "p_holm"}`; filled where Holm's p is below 0.05."""
    names = labels([row["arm"] for row in rows])
    for index, row in enumerate(rows):
        low, high = _error(row["difference"], row["lo"], row["hi"])
        sure = row["p_holm"] is not None and row["p_holm"] < 0.05
        look = _look(ax, 0)
        ax.errorbar(
            row["difference"], index, xerr=[[low], [high]], fmt="o", color=look["color"], capsize=3,
            mfc=look["color"] if sure else "white",
        )  # fmt: skip
    ax.axvline(0, color="#444444", lw=1)
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.grid(axis="y", visible=False)
    ax.set(title=label(title, 90), xlabel="difference to the baseline (filled: p < 0.05 after Holm)")
    return ax


def win_loss(ax: Axes, rows: Sequence[Row], title: str) -> Axes:
    """Queries won, tied and lost against the baseline: `{"arm", "wins", "ties", "losses"}`; a row's `difference` with
    `lo` and `hi` is written beside its bar, for counts of queries show no interval."""
    names = labels([row["arm"] for row in rows])
    for index, row in enumerate(rows):
        left = 0
        total = max(row["wins"] + row["ties"] + row["losses"], 1)
        for part, colour, ink in _OUTCOMES:
            share = row[part] / total
            ax.barh(index, share, left=left / total, color=colour, height=0.6, label=part if index == 0 else None)
            if share > 0.06:
                ax.text(
                    (left + row[part] / 2) / total,
                    index,
                    str(row[part]),
                    ha="center",
                    va="center",
                    color=ink,
                    fontsize=8,
                )
            left += row[part]
        if row.get("lo") is not None and row.get("hi") is not None:
            said = f"{row['difference']:+.3f} [{row['lo']:+.3f}, {row['hi']:+.3f}]"
            ax.text(1.01, index, said, va="center", fontsize=8, transform=ax.get_yaxis_transform())
    ax.set_yticks(range(len(names)), names)
    ax.invert_yaxis()
    ax.grid(visible=False)
    ax.set_xlim(0, 1)
    ax.set(title=label(title, 90), xlabel="share of queries")
    _legend(ax, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.2))
    return ax


def latency_ecdf(ax: Axes, times: Mapping[str, Sequence[float]], title: str = "Latency of one query") -> Axes:
    """`{arm: [ms]}`: the share of queries answered within so many milliseconds."""
    for index, (arm, values) in enumerate(times.items()):
        if not len(values):
            continue
        ordered = np.sort(np.asarray(values, dtype=float))
        share = np.arange(1, len(ordered) + 1) / len(ordered)
        look = _look(ax, index)
        ax.step(ordered, share, where="post", color=look["color"], ls=look["linestyle"], label=label(arm))
    ax.set_xscale("log")
    ax.set_ylim(0, 1.02)
    ax.set(title=label(title, 90), xlabel="ms (log)", ylabel="share of queries")
    _legend_below(ax)
    return ax


def frontier(ax: Axes, points: Sequence[Row], title: str, score: str = "score") -> Axes:
    """`{"arm", "ms", "score", "lo", "hi"}`: quality against cost. The line joins arms that no other beats in both."""
    best: list[tuple[float, float]] = []
    top = float("-inf")
    for row in sorted(points, key=lambda r: (r["ms"], -r["score"])):
        if row["score"] > top:
            top = row["score"]
            best.append((row["ms"], row["score"]))
    if len(best) > 1:
        ax.plot(*zip(*best, strict=True), color="#999999", lw=1, ls="--", zorder=1)
    names = labels([row["arm"] for row in points])
    for index, row in enumerate(points):
        low, high = _error(row["score"], row["lo"], row["hi"])
        look = _look(ax, index)
        ax.errorbar(
            row["ms"],
            row["score"],
            yerr=[[low], [high]],
            fmt=look["marker"],
            color=look["color"],
            ms=7,
            capsize=2,
            lw=1,
        )
    ax.set_xscale("log")
    ax.margins(x=0.18, y=0.14)
    ax.set(title=label(title, 90), xlabel="ms a query, median (log)", ylabel=score)
    write_names(ax, names, [(row["ms"], row["score"], row["lo"], row["hi"]) for row in points])
    return ax


def job_states(ax: Axes, series: Mapping[str, Sequence[float]], title: str = "Jobs by state") -> Axes:
    """`{"seconds": […], state: [count at that time]}` as areas; states in the order of a job's life."""
    states = [state for state in STATE_COLOURS if state in series]
    ax.stackplot(
        series["seconds"], *[series[state] for state in states], labels=states,
        colors=[STATE_COLOURS[state] for state in states], step="post",
    )  # fmt: skip
    ax.set_ylim(bottom=0)
    ax.margins(x=0)
    ax.set(title=label(title, 90), xlabel="seconds since the first job", ylabel="jobs")
    _legend(ax, ncols=5, loc="upper center", bbox_to_anchor=(0.5, -0.18))
    return ax


def throughput(ax: Axes, rates: Mapping[str, Sequence[float]], title: str = "Changes of state") -> Axes:
    """`{"seconds": […], state: [changes into it a second, …]}` as one line a state."""
    for state in (state for state in STATE_COLOURS if state in rates):
        ax.plot(rates["seconds"], rates[state], label=state, color=STATE_COLOURS[state], lw=1.6)
    ax.set(title=label(title, 90), xlabel="seconds", ylabel="changes a second", ylim=(0, None))
    _legend(ax)
    return ax


def memory_timeline(ax: Axes, items: Sequence[Row], title: str = "Memories over time") -> Axes:
    """`{"label", "start", "end" (None: still valid), "type", "status"}` with datetimes; one bar a memory."""
    with needs("eval"):
        import matplotlib.dates as mdates
        from matplotlib.patches import Patch

    types = list(dict.fromkeys(str(item["type"]) for item in items))
    palette = {kind: _look(ax, index)["color"] for index, kind in enumerate(types)}
    days = [mdates.date2num(at) for item in items for at in (item["start"], item["end"]) if at is not None]  # type: ignore[no-untyped-call]
    # What is still valid runs past the last event, so that a memory of the last day can be seen.
    now = max(days, default=0.0) + 0.06 * (max(days, default=0.0) - min(days, default=0.0)) + 0.5
    for index, item in enumerate(items):
        start = mdates.date2num(item["start"])  # type: ignore[no-untyped-call]
        end = now if item["end"] is None else mdates.date2num(item["end"])  # type: ignore[no-untyped-call]
        alpha = 1.0 if item["end"] is None else 0.35
        ax.barh(index, max(end - start, 0.2), left=start, height=0.6, color=palette[str(item["type"])], alpha=alpha)
        if item["end"] is not None:
            ax.plot([end], [index], marker="x", color="#222222", ms=6)
    ax.set_yticks(range(len(items)), labels([str(item["label"]) for item in items], width=40))
    ax.invert_yaxis()
    ax.xaxis_date()
    ax.xaxis.set_major_formatter(mdates.ConciseDateFormatter(ax.xaxis.get_major_locator()))  # type: ignore[no-untyped-call]
    ax.grid(axis="y", visible=False)
    ax.set_title(label(f"{title} (pale with ×: no longer valid)", 90))
    handles = [Patch(color=colour, label=kind) for kind, colour in palette.items()]
    _legend(ax, handles=handles, ncols=4, loc="upper center", bbox_to_anchor=(0.5, -0.1))
    return ax
