"""A model that plays a script: for tests, notebooks and dry runs. No network, no clock."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from smartmem.errors import ModelError
from smartmem.llm.model import ChatAnswer, ChatRequest, Usage

Line = str | Mapping[str, Any] | Exception | Callable[[ChatRequest], str]


class ScriptedChat:
    """Gives the next line of its script, one a call: a text, an object (as JSON), a function of the request, or an
    exception to raise. The last line is repeated when `loop`; else a call beyond the script raises `ModelError`."""

    name = "scripted"

    def __init__(self, *script: Line, loop: bool = False) -> None:
        self._script: Sequence[Line] = script
        self._loop = loop
        self.requests: list[ChatRequest] = []

    def complete(self, request: ChatRequest) -> ChatAnswer:
        place = len(self.requests)
        self.requests.append(request)
        if place >= len(self._script):
            if not self._loop:
                raise ModelError(f"the script has {len(self._script)} lines; this is call {place + 1}")
            place = len(self._script) - 1
        line = self._script[place]
        if isinstance(line, Exception):
            raise line
        text = line(request) if callable(line) else line if isinstance(line, str) else json.dumps(line)
        usage = Usage(calls=1, prompt_tokens=len(request.user) // 4, completion_tokens=len(text) // 4)
        return ChatAnswer(text=text, model=self.name, usage=usage)
