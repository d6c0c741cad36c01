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
    win_loss,
)
from smartmem.viz.figures import data_uri, figure, label, labels, to_png

__all__ = [
    "category_bars",
    "data_uri",
    "differences",
    "figure",
    "frontier",
    "job_states",
    "label",
    "labels",
    "latency_ecdf",
    "memory_timeline",
    "metric_bars",
    "recall_curves",
    "to_png",
    "win_loss",
]
