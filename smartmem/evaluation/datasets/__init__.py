"""Benchmarks by name: `load_dataset("locomo")`. See registry.py for where files are looked for."""

from __future__ import annotations

from smartmem.evaluation.datasets.records import (
    Conversation,
    Dataset,
    EvalQuery,
    Note,
    Session,
    SpanRef,
    Turn,
    session_key,
    turn_key,
)
from smartmem.evaluation.datasets.registry import (
    Entry,
    FileState,
    get,
    list_datasets,
    load_dataset,
    show_dataset,
    validate,
)
from smartmem.evaluation.datasets.template import write_template

__all__ = [
    "Conversation",
    "Dataset",
    "Entry",
    "EvalQuery",
    "FileState",
    "Note",
    "Session",
    "SpanRef",
    "Turn",
    "get",
    "list_datasets",
    "load_dataset",
    "session_key",
    "show_dataset",
    "turn_key",
    "validate",
    "write_template",
]
