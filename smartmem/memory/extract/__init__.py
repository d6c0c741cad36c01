"""Extractors: from a message to candidate facts. Importing this room registers `mock`, `rules`, `tagger`,
`encoder` and `llm`."""

from smartmem.memory.extract import encoder, llm, mock, rules, tagger
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
    "encoder",
    "extractor",
    "extractor_names",
    "llm",
    "mock",
    "rules",
    "tagger",
]
