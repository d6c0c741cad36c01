"""Extractors: from a message to candidate facts. `mock`, `rules` and `llm` are registered by importing this room."""

from smartmem.memory.extract import llm, mock, rules
from smartmem.memory.extract.base import (
    Extraction,
    Extractor,
    Intent,
    create_extractor,
    extractor,
    extractor_names,
)

__all__ = [
    "Extraction",
    "Extractor",
    "Intent",
    "create_extractor",
    "extractor",
    "extractor_names",
    "llm",
    "mock",
    "rules",
]
