"""Language models behind one protocol: an OpenAI-compatible endpoint, a cache, a guard, and a scripted fake."""

from smartmem.llm.cache import CachedChat
from smartmem.llm.endpoint import OpenAIChat
from smartmem.llm.guard import GuardedChat
from smartmem.llm.model import ChatAnswer, ChatModel, ChatRequest, Usage
from smartmem.llm.scripted import ScriptedChat
from smartmem.llm.structured import parse

__all__ = [
    "CachedChat",
    "ChatAnswer",
    "ChatModel",
    "ChatRequest",
    "GuardedChat",
    "OpenAIChat",
    "ScriptedChat",
    "Usage",
    "parse",
]
