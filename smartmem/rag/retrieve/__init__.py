"""Retrievers by name."""

from smartmem.rag.retrieve.bm25 import Bm25Retriever
from smartmem.rag.retrieve.dates import DatesRetriever
from smartmem.rag.retrieve.dense import DenseRetriever
from smartmem.rag.retrieve.hybrid import HybridRetriever
from smartmem.rag.retrieve.late import LateInteractionRetriever
from smartmem.rag.retrieve.mmr import MmrRetriever
from smartmem.rag.retrieve.neighbours import NeighboursRetriever

__all__ = [
    "Bm25Retriever",
    "DatesRetriever",
    "DenseRetriever",
    "HybridRetriever",
    "LateInteractionRetriever",
    "MmrRetriever",
    "NeighboursRetriever",
]
