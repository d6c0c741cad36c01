"""Any OpenAI-compatible endpoint, through the OpenAI client."""

from __future__ import annotations

import os
from typing import Any, Literal

from smartmem.errors import ConfigError, MalformedOutput, MissingExtra, ModelError, TransientModelError
from smartmem.llm.model import ChatAnswer, ChatRequest, Usage

JsonMode = Literal["schema", "object", "none"]


class OpenAIChat:
    """`json_mode`: how the endpoint is asked for JSON; `object` or `none` for servers that know no JSON schema.

    No retries inside a call by default: a job that fails is tried again, and two loops would multiply. The key is
    read from the variable named by `api_key_env`, never from a file.
    """

    def __init__(
        self,
        model: str,
        base_url: str | None = None,
        api_key_env: str = "OPENAI_API_KEY",
        timeout_s: float = 30,
        max_retries: int = 0,
        json_mode: JsonMode = "schema",
    ) -> None:
        try:
            import openai
        except ImportError:
            raise MissingExtra("openai", "llm") from None
        key = os.environ.get(api_key_env)
        if not model:
            raise ConfigError('a language model needs a name: set model = "…" beside base_url')
        if not key and base_url is None:
            raise ConfigError(f"model {model!r}: the variable {api_key_env} is not set; export your API key in it")
        # Local servers ask for no key, but the client refuses to be made without one.
        self._client: Any = openai.OpenAI(
            api_key=key or "none", base_url=base_url, timeout=timeout_s, max_retries=max_retries
        )
        self._errors: Any = openai
        self._model, self._json_mode = model, json_mode
        self.name = f"{model}@{base_url or 'api.openai.com'}"

    def complete(self, request: ChatRequest) -> ChatAnswer:
        try:
            answer = self._client.chat.completions.create(
                model=self._model,
                messages=[
                    {"role": "system", "content": request.system},
                    {"role": "user", "content": request.user},
                ],
                temperature=request.temperature,
                max_tokens=request.max_tokens,
                **self._format(request),
            )
        except (
            self._errors.APIConnectionError,  # time-outs too
            self._errors.RateLimitError,
            self._errors.InternalServerError,
        ) as error:
            raise TransientModelError(f"model {self.name}: {_said(error)}; try again later") from error
        except self._errors.OpenAIError as error:
            raise ModelError(f"model {self.name}: {_said(error)}") from error
        except ValueError as error:  # a body that is no JSON, e.g. a proxy's page with status 200
            raise TransientModelError(f"model {self.name}: the answer is not JSON: {_said(error)}") from error
        return self._answer(answer)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _format(self, request: ChatRequest) -> dict[str, Any]:
        if request.schema is None or self._json_mode == "none":
            return {}
        if self._json_mode == "object":
            return {"response_format": {"type": "json_object"}}
        schema = {"name": request.schema_name, "schema": dict(request.schema), "strict": True}
        return {"response_format": {"type": "json_schema", "json_schema": schema}}

    def _answer(self, answer: Any) -> ChatAnswer:
        choices = getattr(answer, "choices", None)
        if not choices:
            raise MalformedOutput(
                f"model {self.name}: the answer has no choices; is this an OpenAI-compatible endpoint?"
            )
        usage = getattr(answer, "usage", None)
        return ChatAnswer(
            text=choices[0].message.content or "",
            model=getattr(answer, "model", None) or self._model,
            complete=choices[0].finish_reason != "length",
            usage=Usage(
                calls=1,
                prompt_tokens=getattr(usage, "prompt_tokens", 0) or 0,
                completion_tokens=getattr(usage, "completion_tokens", 0) or 0,
            ),
        )


def _said(error: Exception) -> str:
    """What the endpoint said, without the request's text (errors are logged and stored on jobs)."""
    return f"{type(error).__name__}: {error}"[:300]
