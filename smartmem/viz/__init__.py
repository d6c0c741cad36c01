"""Charts as functions that take data and axes, and figures in the house style."""

from smartmem.viz.charts import (
    category_bars,
    differences,
    frontier,
    job_states,
    latency_ecdf,
    memory_timeline,
    metric_bars,
    recall_curves,
    throughput,
    win_loss,
)
from smartmem.viz.figures import data_uri, figure, label, labels, to_png
from smartmem.viz.graph import lineage_graph
from smartmem.viz.quality import confusion, gate_curves

__all__ = [
    "category_bars",
    "confusion",
    "data_uri",
    "differences",
    "figure",
    "frontier",
    "gate_curves",
    "job_states",
    "label",
    "labels",
    "latency_ecdf",
    "lineage_graph",
    "memory_timeline",
    "metric_bars",
    "recall_curves",
    "throughput",
    "to_png",
    "win_loss",
]
