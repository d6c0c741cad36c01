"""The `llm` comparator: one call a fact, whatever the number of candidates.

The model sees small numbers in place of ids, so that it can neither leak nor guess a real one. A number that it
invents is refused; a memory on which it is silent counts as a failed comparison.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from smartmem.errors import MalformedOutput, ModelError
from smartmem.llm import ChatModel, ChatRequest, parse
from smartmem.llm.endpoint import JsonMode
from smartmem.memory.compare import Comparison, Relation, comparator
from smartmem.memory.extract.llm import make_chat
from smartmem.memory.extract.prompts import prompt
from smartmem.memory.facts import Fact


class _Pair(BaseModel):
    model_config = ConfigDict(extra="ignore")

    id: int
    relation: Relation
    score: float = Field(0.5, ge=0, le=1)
    reason: str = ""


class _Answer(BaseModel):
    model_config = ConfigDict(extra="ignore")

    comparisons: list[_Pair]


_SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["comparisons"],
    "properties": {
        "comparisons": {
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["id", "relation", "score", "reason"],
                "properties": {
                    "id": {"type": "integer"},
                    "relation": {"type": "string", "enum": [str(relation) for relation in Relation]},
                    "score": {"type": "number"},
                    "reason": {"type": "string"},
                },
            },
        }
    },
}


@comparator("llm")
class LlmComparator:
    """Options as for the `llm` extractor; `chat` replaces the endpoint."""

    def __init__(
        self,
        model: str = "",
        base_url: str | None = None,
        api_key_env: str = "OPENAI_API_KEY",
        timeout_s: float = 30,
        json_mode: JsonMode = "schema",
        cache: str | Path | None = None,
        per_minute: int = 0,
        max_tokens: int = 512,
        chat: ChatModel | None = None,
    ) -> None:
        self._chat = chat or make_chat(model, base_url, api_key_env, timeout_s, json_mode, cache, per_minute)
        self._max_tokens = max_tokens
        self._system, self.prompt_version = prompt("compare")

    def compare(self, fact: Fact, candidates: Sequence[Mapping[str, Any]]) -> Sequence[Comparison | Exception]:
        if not candidates:
            return []
        try:
            answer = self._chat.complete(
                ChatRequest(
                    system=self._system,
                    user=_question(fact, candidates),
                    schema=_SCHEMA,
                    schema_name="memory_comparison",
                    max_tokens=self._max_tokens,
                )
            )
            parsed, _ = parse(answer, _Answer)
        except ModelError as error:
            return [error] * len(candidates)
        told = {pair.id: pair for pair in parsed.comparisons if 1 <= pair.id <= len(candidates)}
        invented = sorted({pair.id for pair in parsed.comparisons} - told.keys())
        return [_verdict(fact, told.get(number), number, invented) for number in range(1, len(candidates) + 1)]


def _verdict(fact: Fact, pair: _Pair | None, number: int, invented: Sequence[int]) -> Comparison | Exception:
    if pair is None:
        extra = f"; it invented {list(invented)}" if invented else ""
        return MalformedOutput(f"the model said nothing about memory {number}{extra}")
    takes_back = pair.relation is Relation.RETRACTION
    if takes_back is not (fact.action == "retract") and pair.relation is not Relation.UNRELATED:
        # A statement cannot retract, nor a request to forget update: the nearest thing that it can do.
        relation = Relation.CONFLICT if takes_back else Relation.RETRACTION
        return Comparison(relation=relation, score=pair.score, reason=pair.reason[:200])
    return Comparison(relation=pair.relation, score=pair.score, reason=pair.reason[:200])


def _question(fact: Fact, candidates: Sequence[Mapping[str, Any]]) -> str:
    """JSON strings cannot be left by what stands in them."""
    asked = "asks to take back" if fact.action == "retract" else "says"
    lines = [
        json.dumps({"id": number, "type": row["memory_type"], "text": row["content"]}, ensure_ascii=False)
        for number, row in enumerate(candidates, 1)
    ]
    new = json.dumps({"type": fact.memory_type, "text": fact.content}, ensure_ascii=False)
    return f"The user {asked}:\n<new>\n{new}\n</new>\n<memories>\n" + "\n".join(lines) + "\n</memories>"
