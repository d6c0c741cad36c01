"""Comparators by name; importing this room registers `rules`, `encoder` and `llm`."""

from smartmem.memory import compare_encoder, compare_llm, compare_rules
from smartmem.memory.compare import Comparator, Comparison, Relation, comparator_names, create_comparator

__all__ = [
    "Comparator",
    "Comparison",
    "Relation",
    "comparator_names",
    "compare_encoder",
    "compare_llm",
    "compare_rules",
    "create_comparator",
]
