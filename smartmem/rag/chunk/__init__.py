"""Chunkers by name."""

from smartmem.rag.chunk.fixed import FixedChunker
from smartmem.rag.chunk.turn import TurnChunker

__all__ = ["FixedChunker", "TurnChunker"]
