"""Charts of memory quality draw what they are given."""

from __future__ import annotations

from types import SimpleNamespace

from smartmem.viz.figures import figure
from smartmem.viz.quality import confusion, gate_curves


def test_the_confusion_writes_every_count_in_the_order_of_the_operations() -> None:
    with figure() as (_, ax):
        confusion(ax, {"NONE": {"ADD": 1}, "ADD": {"ADD": 75, "FAILED": 2}})
        assert [t.get_text() for t in ax.get_yticklabels()] == ["ADD", "NONE"]
        assert [t.get_text() for t in ax.get_xticklabels()] == ["ADD", "UPDATE", "DELETE", "NONE", "FAILED"]
        assert [t.get_text() for t in ax.texts] == ["75", "0", "0", "0", "2", "1", "0", "0", "0", "0"]


def test_each_arm_is_a_line_beside_the_dice() -> None:
    points = [SimpleNamespace(silent=0.0, answered=0.9), SimpleNamespace(silent=1.0, answered=0.0)]
    with figure() as (_, ax):
        gate_curves(ax, {"a": points, "b": points})
        assert [line.get_label() for line in ax.get_lines()] == ["a", "b", "by dice, all found"]
