"""The `llm` extractor: any OpenAI-compatible endpoint, JSON schema output, repaired and validated.

Two guards stand between the model and the memory. Every fact must quote the message word for word, so that nothing a
model invents, or an injected instruction dictates, is kept. And a message in which nobody speaks of herself is never
sent at all.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from smartmem.llm import CachedChat, ChatModel, ChatRequest, GuardedChat, OpenAIChat, Usage, parse
from smartmem.llm.endpoint import JsonMode
from smartmem.memory.extract.base import Extraction, Intent, extractor
from smartmem.memory.extract.dates import end_of
from smartmem.memory.extract.prompts import prompt
from smartmem.memory.extract.signals import speaks_of_self
from smartmem.memory.facts import Candidate, Message
from smartmem.memory.similarity import terms
from smartmem.text import fold_space, normalise

GROUNDED = 0.34  # of a fact's content words stand in the message; the rest may be "the user", a tense, a resolved "it"


class _Fact(BaseModel):
    model_config = ConfigDict(extra="ignore")

    memory_type: str
    content: str
    quote: str
    title: str = ""
    slot: str | None = None
    confidence: float | None = None
    importance: float | None = None
    sensitivity_level: int = 0
    is_explicit: bool = False
    ttl_date: str | None = None
    action: Literal["assert", "retract"] = "assert"


class _Answer(BaseModel):
    model_config = ConfigDict(extra="ignore")

    message_intent: Intent
    facts: list[dict[str, Any]]


_SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["message_intent", "facts"],
    "properties": {
        "message_intent": {"type": "string", "enum": [str(intent) for intent in Intent]},
        "facts": {
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": [
                    "memory_type", "content", "quote", "slot", "confidence", "importance", "sensitivity_level",
                    "is_explicit", "ttl_date", "action",
                ],
                "properties": {
                    "memory_type": {"type": "string", "enum": ["preference", "constraint", "fact", "todo_hint"]},
                    "content": {"type": "string"},
                    "quote": {"type": "string"},
                    "slot": {"type": ["string", "null"]},
                    "confidence": {"type": "number"},
                    "importance": {"type": "number"},
                    "sensitivity_level": {"type": "integer", "enum": [0, 1, 2]},
                    "is_explicit": {"type": "boolean"},
                    "ttl_date": {"type": ["string", "null"]},
                    "action": {"type": "string", "enum": ["assert", "retract"]},
                },
            },
        },
    },
}  # fmt: skip


def make_chat(
    model: str,
    base_url: str | None,
    api_key_env: str,
    timeout_s: float,
    json_mode: JsonMode,
    cache: str | Path | None,
    per_minute: int,
) -> ChatModel:
    """An endpoint behind its guard, and behind a cache where a path is given."""
    chat: ChatModel = GuardedChat(
        OpenAIChat(model, base_url=base_url, api_key_env=api_key_env, timeout_s=timeout_s, json_mode=json_mode),
        per_minute=per_minute,
    )
    return CachedChat(chat, cache) if cache else chat


@extractor("llm")
class LlmExtractor:
    """Options name the endpoint; `chat` replaces it (tests, other clients).

    `price_in`, `price_out`: currency units a million tokens, for the cost in `usage`. `prefilter = false` sends every
    message.
    """

    def __init__(
        self,
        model: str = "",
        base_url: str | None = None,
        api_key_env: str = "OPENAI_API_KEY",
        timeout_s: float = 30,
        json_mode: JsonMode = "schema",
        cache: str | Path | None = None,
        per_minute: int = 0,
        concurrency: int = 4,
        max_facts: int = 3,
        max_tokens: int = 1024,
        prefilter: bool = True,
        price_in: float = 0.0,
        price_out: float = 0.0,
        chat: ChatModel | None = None,
    ) -> None:
        self._chat = chat or make_chat(model, base_url, api_key_env, timeout_s, json_mode, cache, per_minute)
        self.concurrency = concurrency
        self._max_facts, self._max_tokens, self._prefilter = max_facts, max_tokens, prefilter
        self._prices = (price_in, price_out)
        text, self.prompt_version = prompt("extract")
        self._system = text.replace("{max_facts}", str(max_facts))

    def extract(self, message: Message) -> Extraction:
        if self._prefilter and not speaks_of_self(message.source_text):
            return Extraction(
                intent=Intent.CHITCHAT, reason="not sent: nobody speaks of herself", usage=asdict(Usage())
            )
        answer = self._chat.complete(
            ChatRequest(
                system=self._system,
                user=_question(message),
                schema=_SCHEMA,
                schema_name="memory_extraction",
                max_tokens=self._max_tokens,
            )
        )
        parsed, repaired = parse(answer, _Answer)
        usage = self._usage(answer.usage, answer.model, repaired=repaired)
        if not parsed.message_intent.holds_facts:
            refused = f"; {len(parsed.facts)} facts refused" if parsed.facts else ""
            return Extraction(intent=parsed.message_intent, reason=f"intent{refused}", usage=usage)
        facts, problems = _facts(parsed.facts, message, self._max_facts)
        return Extraction(
            facts=tuple(facts), intent=parsed.message_intent, reason="; ".join(problems) or None, usage=usage
        )

    def _usage(self, usage: Usage, model: str, *, repaired: bool) -> dict[str, Any]:
        cost = (usage.prompt_tokens * self._prices[0] + usage.completion_tokens * self._prices[1]) / 1e6
        told = {**asdict(usage), "model": model, "prompt": self.prompt_version}
        if cost:
            told["cost"] = round(cost, 6)
        if repaired:
            told["repaired"] = True
        return told


def _question(message: Message) -> str:
    """The message between tags that it cannot close by itself."""
    said = message.source_text.replace("</message", "<\u200b/message")
    who = f" speaker={message.speaker!r}" if message.speaker else ""
    return (
        f"Said at {message.occurred_at.isoformat()}.\n<message role={message.source_role!r}{who}>\n{said}\n</message>"
    )


def _facts(raw: list[dict[str, Any]], message: Message, limit: int) -> tuple[list[Candidate], list[str]]:
    """The facts that stand, and why each of the others does not."""
    kept: list[Candidate] = []
    problems: list[str] = []
    source = normalise(message.source_text)
    for index, entry in enumerate(raw):
        try:
            fact = _Fact.model_validate(entry)
        except ValidationError as error:
            first = error.errors(include_input=False)[0]
            problems.append(f"fact {index} refused: {'.'.join(map(str, first['loc']))}: {first['msg']}")
            continue
        quote = normalise(fact.quote)
        if len(quote) < 2 or quote not in source:
            problems.append(f"fact {index} refused: UNGROUNDED, its quote is not in the message")
        elif not _told(fact.content, message):
            problems.append(f"fact {index} refused: UNGROUNDED, its content is not what the message says")
        elif len(kept) == limit:
            problems.append(f"fact {index} refused: TOO_MANY")
        else:
            kept.append(_candidate(fact, message))
    return kept, problems


def _told(content: str, message: Message) -> bool:
    """Whether a fact's content is made of the message's words: a true quote beside invented words proves nothing."""
    said, source = terms(content), terms(message.source_text)
    return not said or len(said & source) >= GROUNDED * len(said)


def _candidate(fact: _Fact, message: Message) -> Candidate:
    start = message.source_text.find(fact.quote)
    return Candidate(
        memory_type=fact.memory_type,
        content=fact.content,
        title=fact.title,
        confidence=fact.confidence,
        importance=fact.importance,
        sensitivity_level=fact.sensitivity_level,
        is_explicit=fact.is_explicit,
        ttl_at=_ttl(fact.ttl_date, message.occurred_at),
        slot=fold_space(fact.slot).casefold() or None if fact.slot else None,
        span=(start, start + len(fact.quote)) if start >= 0 else None,
        action=fact.action,
    )


def _ttl(day: str | None, said_at: dt.datetime) -> dt.datetime | None:
    """A date that cannot be read is no date: the fact stands without its end."""
    try:
        return end_of(dt.date.fromisoformat(day), said_at.tzinfo) if day else None
    except ValueError:
        return None
