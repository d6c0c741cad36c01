"""The REST service: `app(bench, keys)` is an ASGI application; its OpenAPI schema is at /openapi.json."""

# No `from __future__ import annotations`: FastAPI reads the annotations of functions defined inside a function.

from importlib.metadata import version
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, StrictBool

from smartmem.chat.append import ForeignConversation
from smartmem.chat.message import Appended
from smartmem.errors import BadRecord, DataError, ModelError, ScopeError, SmartMemError, StoreUnavailable, needs
from smartmem.memory.apply import ItemChanged
from smartmem.memory.explain import Explanation
from smartmem.memory.govern import NoSuchMemory
from smartmem.memory.recall import Recalled
from smartmem.memory.user_settings import UserSettings
from smartmem.memory.views import MemoryItem, Page
from smartmem.serve.keys import Keys, Scope
from smartmem.types import MAX_ID, MemoryStatus, MemoryType
from smartmem.workbench import Workbench

if TYPE_CHECKING:
    from fastapi import FastAPI

MAX_CHARS = 100_000
EXPLAINED = 1000  # an answer of this many verdicts is about a megabyte


def _written(value: object) -> object:
    """A time is written out: pydantic would take a number for seconds since 1970."""
    if not isinstance(value, str) or value.replace(".", "").lstrip("+-").isdigit():
        raise ValueError("a time is written as ISO 8601 with its zone, e.g. 2026-01-05T09:00:00Z")
    return value


def _number(value: object) -> object:
    """1.0 is a whole number in JSON; true and "1" are none."""
    if isinstance(value, bool | str):
        raise ValueError("a whole number is wanted")
    return value


Time = Annotated[AwareDatetime, BeforeValidator(_written)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NewMessage(_Body):
    """One message. Sent again with the same `client_message_id` it is stored once."""

    conversation_id: str = Field(min_length=1, max_length=191)
    role: Literal["user", "assistant", "system", "tool"]
    content: str = Field(max_length=MAX_CHARS)
    occurred_at: Time | None = None
    client_message_id: str | None = Field(None, min_length=1, max_length=191)
    assistant_id: str | None = Field(None, min_length=1, max_length=191)


class Question(_Body):
    """What the user asks, or the topic that the assistant is about to answer."""

    query: str = Field(min_length=1, max_length=4000)
    mode: Literal["legacy", "rag", "hybrid"] | None = None


class RecallQuestion(Question):
    """`k`: at most so many memories."""

    k: Annotated[int, Field(ge=1, le=100), BeforeValidator(_number)] | None = None


class RecallAnswer(BaseModel):
    """`prompt` is what to put before the model; `recalled` what it was made of, and what was left out and why."""

    prompt: str
    recalled: Recalled


class Edit(_Body):
    """`version` is the one that was seen; if it is no longer the current one, nothing is changed (409)."""

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [
                {"required": [name], "properties": {name: {"not": {"type": "null"}}}}
                for name in ("content", "memory_type")
            ]
        }
    )
    version: Annotated[int, Field(ge=1, le=10**9), BeforeValidator(_number)]
    content: str | None = Field(None, min_length=1, max_length=1000)
    memory_type: MemoryType | None = None


class Switches(_Body):
    """What is left out stays as it is."""

    memory_enabled: StrictBool | None = None
    implicit_memory_enabled: StrictBool | None = None
    sensitive_memory_enabled: StrictBool | None = None


class Problem(BaseModel):
    """Why a call was refused. `error` is the name of an error class, or BadRequest for what does not fit the schema."""

    error: str
    message: str


class Health(BaseModel):
    """Told to anybody who asks, so it says no more than this."""

    status: Literal["ok"] = "ok"


def status_of(error: SmartMemError) -> int:
    """The HTTP status of an error."""
    if isinstance(error, NoSuchMemory):
        return 404
    if isinstance(error, ScopeError):
        return 403
    if isinstance(error, ItemChanged | ForeignConversation):
        return 409
    if isinstance(error, DataError):
        return 422
    return 503 if isinstance(error, StoreUnavailable | ModelError) else 500


def _methods(service: "FastAPI", path: str) -> set[str]:
    return {
        method
        for route in service.routes
        if (known := getattr(route, "path_regex", None)) and known.match(path)
        for method in getattr(route, "methods", None) or ()
    }


def app(bench: Workbench, keys: Keys) -> "FastAPI":
    """The service on an open workbench. Raises `MissingExtra` without the extra `serve`."""
    with needs("serve"):
        from fastapi import Depends, FastAPI, HTTPException, Path, Query, Request, Security
        from fastapi.exceptions import RequestValidationError
        from fastapi.responses import JSONResponse
        from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
        from starlette.exceptions import HTTPException as AnyHTTPException

    bearer = HTTPBearer(auto_error=False, description="a key of SMARTMEM_API_KEYS")

    def scope(given: Annotated[HTTPAuthorizationCredentials | None, Security(bearer)]) -> Scope:
        found = keys.scope(given.credentials) if given else None
        if found is None:
            raise HTTPException(401, "no such key", headers={"WWW-Authenticate": "Bearer"})
        return found

    def user(user_id: Annotated[int, Path(ge=1, le=MAX_ID)], allowed: Annotated[Scope, Depends(scope)]) -> int:
        allowed.check(user_id)
        return user_id

    User = Annotated[int, Depends(user)]
    MemoryId = Annotated[str, Path(min_length=1, max_length=64, pattern=r"^[\x21-\x7e]+$")]
    refusals: dict[int | str, dict[str, Any]] = {code: {"model": Problem} for code in (401, 403, 404, 409, 422, 503)}
    service = FastAPI(title="smartmem", version=version("smartmem"), responses=refusals)

    @service.exception_handler(SmartMemError)
    def refused(_request: Request, error: SmartMemError) -> JSONResponse:
        return JSONResponse({"error": type(error).__name__, "message": str(error)}, status_of(error))

    @service.exception_handler(RequestValidationError)
    def unfit(_request: Request, error: RequestValidationError) -> JSONResponse:
        # FastAPI's own answer repeats what was sent: a message's text belongs in no error, and NaN is no JSON.
        said = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        return JSONResponse({"error": "BadRequest", "message": said}, 422)

    @service.exception_handler(AnyHTTPException)
    def other(request: Request, error: AnyHTTPException) -> JSONResponse:
        if error.status_code == 400:  # a body that is no JSON at all; what does not fit the schema is 422 as well
            return JSONResponse({"error": "BadRequest", "message": str(error.detail)}, 422)
        headers = dict(error.headers or {})
        if error.status_code == 405:  # the router tells the methods of one route, and a path has several
            headers["Allow"] = ", ".join(sorted(_methods(service, request.url.path)))
        answer = {"error": "HTTPError", "message": str(error.detail)}
        return JSONResponse(answer, error.status_code, headers=headers)

    @service.get("/health")
    def health() -> Health:
        """Whether the database answers (503 if not). Needs no key."""
        bench.db.schema_version()
        return Health()

    @service.post("/v1/users/{user_id}/messages", status_code=201)
    def append(user_id: User, message: NewMessage) -> Appended:
        """Store one message with its event, in one transaction. A worker makes memories of it."""
        return bench.append(user_id=user_id, **message.model_dump())

    @service.post("/v1/users/{user_id}/recall")
    def recall(user_id: User, question: RecallQuestion) -> RecallAnswer:
        """The memories to put before the model, gated and within their budget."""
        found = bench.recall(user_id, question.query, mode=question.mode, k=question.k)
        return RecallAnswer(prompt=found.render().text, recalled=found)

    @service.post("/v1/users/{user_id}/explain")
    def explained(user_id: User, question: Question) -> Explanation:
        """Of every memory of the user (of the newest 1,000), why it would be used for this question, or why not."""
        return bench.explain(user_id, question.query, mode=question.mode, limit=EXPLAINED)

    @service.get("/v1/users/{user_id}/memories")
    def listed(
        user_id: User,
        type: Annotated[list[MemoryType] | None, Query()] = None,
        status: Annotated[list[MemoryStatus] | None, Query()] = None,
        text: Annotated[str | None, Query(max_length=200)] = None,
        as_of: Annotated[Time | None, Query()] = None,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
        offset: Annotated[int, Query(ge=0, le=10**9)] = 0,
    ) -> Page:
        """A page of memories, the newest first; only active ones unless a status is named."""
        statuses = [str(one) for one in status or [MemoryStatus.ACTIVE]]
        return bench.memories(
            user_id,
            memory_types=[str(one) for one in type or ()],
            statuses=statuses,
            text=text,
            as_of=as_of,
            limit=limit,
            offset=offset,
        )

    @service.get("/v1/users/{user_id}/memories/{memory_id}")
    def shown(user_id: User, memory_id: MemoryId) -> MemoryItem:
        """One memory, whatever its status."""
        return bench.memory(user_id, memory_id)

    @service.patch("/v1/users/{user_id}/memories/{memory_id}")
    def edited(user_id: User, memory_id: MemoryId, edit: Edit) -> MemoryItem:
        """Change a memory's words or type; the audit keeps what it was."""
        if edit.content is None and edit.memory_type is None:
            raise BadRecord("nothing to change: give content or memory_type")
        kind = None if edit.memory_type is None else str(edit.memory_type)
        return bench.edit(user_id, memory_id, version=edit.version, content=edit.content, memory_type=kind)

    @service.delete("/v1/users/{user_id}/memories/{memory_id}")
    def deleted(user_id: User, memory_id: MemoryId) -> MemoryItem:
        """Delete a memory: it is never recalled again, but can be restored."""
        return bench.delete(user_id, memory_id)

    @service.post("/v1/users/{user_id}/memories/{memory_id}/restore")
    def restored(user_id: User, memory_id: MemoryId) -> MemoryItem:
        """Make a deleted memory active again."""
        return bench.restore(user_id, memory_id)

    @service.get("/v1/users/{user_id}/settings")
    def switches(user_id: User) -> UserSettings:
        """What the user allows."""
        return bench.user_settings(user_id)

    @service.patch("/v1/users/{user_id}/settings")
    def switched(user_id: User, changes: Switches) -> UserSettings:
        """Change what the user allows; it holds for writing and reading from the next call on."""
        return bench.set_user_settings(user_id, **changes.model_dump())

    return service
