"""Chunkers by name."""

from smartmem.rag.chunk.fixed import FixedChunker
from smartmem.rag.chunk.peers import ChonkieChunker, SemchunkChunker
from smartmem.rag.chunk.semantic import SemanticChunker
from smartmem.rag.chunk.sentence import RecursiveChunker, SentenceChunker
from smartmem.rag.chunk.token import TokenChunker
from smartmem.rag.chunk.turn import TurnChunker
from smartmem.rag.chunk.window import WindowChunker

__all__ = [
    "ChonkieChunker",
    "FixedChunker",
    "RecursiveChunker",
    "SemanticChunker",
    "SemchunkChunker",
    "SentenceChunker",
    "TokenChunker",
    "TurnChunker",
    "WindowChunker",
]
