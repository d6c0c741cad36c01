"""The web tools for an assistant, beside its memories: those that `web.*.enabled` switch on."""

# No `from __future__ import annotations`: the SDK reads the annotations of functions defined inside a function.

from typing import TYPE_CHECKING, Any
from uuid import uuid4

from smartmem.errors import needs
from smartmem.web import WebTools
from smartmem.web.tools import Domains, MaxChars, QuestionText, Recency, Results, SearchText, Spans, Url

if TYPE_CHECKING:
    from mcp.server.mcpserver import MCPServer

Json = dict[str, Any]


def add_web_tools(made: "MCPServer[Any]", tools: WebTools) -> None:
    """Register the tools that are switched on.

    All calls of one server are one session, whose name no caller can choose: it serves one assistant.
    """
    with needs("serve"):
        from mcp.types import ToolAnnotations

    session = f"mcp-{uuid4()}"

    def web_search(
        query: SearchText,
        top_k: Results = None,
        domain_allow: Domains = [],  # noqa: B006 - handed on, never changed
        recency_days: Recency = None,
    ) -> Json:
        given = {"query": query, "top_k": top_k, "domain_allow": domain_allow, "recency_days": recency_days}
        return tools.call("web_search", given, session_id=session)

    def web_fetch(url: Url, max_chars: MaxChars = None) -> Json:
        return tools.call("web_fetch", {"url": url, "max_chars": max_chars}, session_id=session)

    def web_rag_search(
        question: QuestionText,
        top_k: Spans = None,
        domain_allow: Domains = [],  # noqa: B006 - as above
        recency_days: Recency = None,
    ) -> Json:
        given = {"question": question, "top_k": top_k, "domain_allow": domain_allow, "recency_days": recency_days}
        return tools.call("web_rag_search", given, session_id=session)

    calls = {call.__name__: call for call in (web_search, web_fetch, web_rag_search)}
    for schema in tools.schemas():
        made.tool(
            name=schema["name"],
            description=schema["description"],
            annotations=ToolAnnotations(read_only_hint=True, open_world_hint=True),
        )(calls[schema["name"]])
