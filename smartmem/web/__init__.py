"""Web search in two stages on the RAG core: find and read pages, then answer with spans of them."""

from smartmem.web.fetch import WebFetcher
from smartmem.web.rag_search import WebRagSearch
from smartmem.web.search import WebSearch
from smartmem.web.tools import WebTools, tool_schemas
from smartmem.web.types import as_json

__all__ = ["WebFetcher", "WebRagSearch", "WebSearch", "WebTools", "as_json", "tool_schemas"]
