"""From a model's words to a checked object: strict JSON first, then repair, then pydantic. Never half an answer."""

from __future__ import annotations

import json
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from smartmem.errors import MalformedOutput, MissingExtra
from smartmem.llm.model import ChatAnswer

M = TypeVar("M", bound=BaseModel)
_SHOWN = 120


def parse(answer: ChatAnswer, model: type[M]) -> tuple[M, bool]:
    """The answer as `model`, and whether its JSON had to be repaired. Raises `MalformedOutput`.

    An answer that ran out of tokens is refused even if it could be repaired: what was cut off would be lost in silence.
    """
    if not answer.complete:
        raise MalformedOutput(f"model {answer.model}: the answer was cut off; raise max_tokens")
    value, repaired = _load(answer)
    if not isinstance(value, dict):
        raise MalformedOutput(f"model {answer.model}: no JSON object in its answer: {answer.text[:_SHOWN]!r}")
    try:
        return model.model_validate(value), repaired
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise MalformedOutput(f"model {answer.model}: {where}: {first['msg']}") from None


def _load(answer: ChatAnswer) -> tuple[Any, bool]:
    try:
        return json.loads(answer.text), False
    except ValueError:
        pass
    try:
        import json_repair
    except ImportError:
        raise MissingExtra("json-repair", "llm") from None
    start, end = answer.text.find("{"), answer.text.rfind("}")
    if start < 0 or end < start:
        return None, True
    return json_repair.loads(answer.text[start : end + 1]), True
