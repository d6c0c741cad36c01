"""Every number as a setting: defaults here, then `smartmem.toml`, then `SMARTMEM_…` variables.

Nested names take two underscores in the environment: `SMARTMEM_JOBS__MAX_RETRY=3`. Unknown keys are refused.
Secrets (API keys) are read from the environment only, never from the file.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from smartmem.errors import ConfigError

FILE = "smartmem.toml"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LeaseSettings(_Section):
    """Shared by the outbox and the jobs (db/leases.py). Times in seconds."""

    lease_s: float = Field(60, gt=0)
    renew_s: float = Field(20, gt=0, description="how often a worker extends the leases that it holds")
    backoff_s: tuple[float, ...] = (1, 2, 4, 8, 16, 32)
    jitter: bool = Field(False, description="full jitter: a back-off is drawn from 0 to its length")
    batch: int = Field(200, ge=1)


class OutboxSettings(LeaseSettings):
    batch: int = Field(500, ge=1, description="events of one transaction; their handlers are SQL, and wait for nobody")
    max_retry: int = Field(20, ge=1)
    retention_days: float = Field(7, ge=0, description="consumed rows are pruned after this time, never before")


class JobSettings(LeaseSettings):
    max_retry: int = Field(6, ge=1)
    workers: int = Field(1, ge=1)
    poll_s: float = Field(1.0, gt=0, description="longest wait between two looks; wake-ups shorten it")
    retention_days: float = Field(30, ge=0, description="finished jobs and their history are pruned after this time")


class ExtractSettings(_Section):
    extractor: dict[str, Any] = {"name": "encoder"}
    max_chars: int = Field(1500, ge=1)
    max_facts: int = Field(3, ge=1)
    min_confidence: float = Field(0.5, ge=0, le=1)
    fallback: Literal["rules", "mock", "none"] = "none"


class WriteSettings(_Section):
    mode: Literal["legacy", "shadow", "decision"] = "decision"
    comparator: dict[str, Any] = {"name": "encoder"}
    candidates: int = Field(5, ge=1)
    fallback: Literal["legacy_add", "drop"] = "legacy_add"


class ReadSettings(_Section):
    mode: Literal["legacy", "rag", "hybrid"] = "hybrid"


class MemorySettings(_Section):
    write: WriteSettings = WriteSettings()
    read: ReadSettings = ReadSettings()


class ScoreWeights(_Section):
    relevance: float = 0.45
    confidence: float = 0.25
    recency: float = 0.20
    explicit: float = 0.10


class RecallSettings(_Section):
    weights: ScoreWeights = ScoreWeights()
    min_score: float = 0.55
    max_per_topic: int = Field(2, ge=1)
    recency_half_life_days: float = Field(90, gt=0)
    budget_items: dict[str, int] = {"constraint": 6, "preference": 6, "todo_hint": 3, "fact": 8}
    budget_tokens: int = Field(800, ge=1)
    candidates: int = Field(50, ge=1)
    render: Literal["flat", "typed"] = "typed"


class RerankSettings(_Section):
    time_budget_ms: float | None = Field(None, gt=0)


class WebSearchSettings(_Section):
    """Stage 1. Keys stand in the environment only: TAVILY_API_KEY, BRAVE_API_KEY."""

    enabled: bool = True
    providers: tuple[Literal["tavily", "brave", "searxng"], ...] = ("tavily", "brave", "searxng")
    tavily_url: str = "https://api.tavily.com"
    brave_url: str = "https://api.search.brave.com"
    searxng_url: str = Field("", description="base URL of your instance; its settings.yml must allow the json format")
    timeout_s: float = Field(8.0, gt=0, description="for one provider, everything included")
    rate_per_s: dict[str, float] = {"tavily": 5.0, "brave": 1.0, "searxng": 2.0}
    max_wait_s: float = Field(
        1.5, ge=0, description="longest wait for a provider's rate limit before the next is asked"
    )
    top_k: int = Field(5, ge=1, le=20)


class WebFetchSettings(_Section):
    """Stage 1. `allow` lists addresses off the public internet that may be fetched, e.g. ("10.1.0.7:8080",)."""

    enabled: bool = True
    timeout_s: float = Field(10.0, gt=0, description="for one page, from name look-up to extracted text")
    max_bytes: int = Field(3_000_000, ge=1, description="after decompression")
    max_redirects: int = Field(5, ge=0)
    max_chars: int = Field(50_000, ge=1)
    concurrency: int = Field(6, ge=1)
    allow: tuple[str, ...] = ()
    user_agent: str = "Mozilla/5.0 (compatible; smartmem/0.1)"


class WebRagSettings(_Section):
    """Stage 2. A span's score is its relevance (0…1) plus the weights times its credibility and its freshness."""

    enabled: bool = True
    rewriter: Literal["rules", "llm"] = "rules"
    model: dict[str, Any] = Field({}, description='of rewriter "llm": { model = "…", base_url = "…" }')
    sub_queries: int = Field(3, ge=1, le=3)
    results: int = Field(8, ge=1, le=20, description="results asked for each sub-query")
    pages: int = Field(8, ge=1, description="pages fetched for a question")
    budget_s: float = Field(20.0, gt=0, description="for search and fetch together")
    chunker: dict[str, Any] = {"name": "sentence", "size": 300}
    retriever: dict[str, Any] = {"name": "hybrid"}
    reranker: dict[str, Any] = {"name": "none"}
    candidates: int = Field(30, ge=1)
    evidence: int = Field(5, ge=1)
    credibility: dict[str, float] = Field({}, description="-1…1 by domain suffix, above the built-in rules")
    credibility_weight: float = Field(0.2, ge=0, le=1)
    freshness_weight: float = Field(0.2, ge=0, le=1, description="times 1 for a page of today, ½ for a year ago")
    ttl_s: float = Field(1800.0, gt=0, description="a session's index is dropped this long after its last use")
    max_sessions: int = Field(64, ge=1)


class WebSettings(_Section):
    search: WebSearchSettings = WebSearchSettings()
    fetch: WebFetchSettings = WebFetchSettings()
    rag: WebRagSettings = WebRagSettings()


class Settings(BaseSettings):
    """All settings of a workbench. `Settings.load()` reads the file in the current folder, if there is one."""

    model_config = SettingsConfigDict(
        env_prefix="SMARTMEM_", env_nested_delimiter="__", extra="forbid", frozen=True, toml_file=None
    )

    database_url: str = "sqlite:///smartmem.db"
    embedder: dict[str, Any] = {"name": "onnx", "model": "multilingual-e5-small"}
    store: dict[str, Any] = Field({"name": "memory"}, description="a path beside the database is filled in")
    chat_search: dict[str, Any] = Field({"preset": "balanced"}, description="pipeline that searches chat turns")
    outbox: OutboxSettings = OutboxSettings()
    jobs: JobSettings = JobSettings()
    extract: ExtractSettings = ExtractSettings()
    memory: MemorySettings = MemorySettings()
    recall: RecallSettings = RecallSettings()
    rerank: RerankSettings = RerankSettings()
    web: WebSettings = WebSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return env_settings, init_settings  # the environment wins over the file, which is handed in by load()

    @classmethod
    def load(cls, path: str | Path | None = None) -> Settings:
        """Read `path` (it must exist) or `smartmem.toml` in the current folder (it may be missing).

        Raises `ConfigError` naming the key and its value.
        """
        file = Path(path) if path else Path(FILE)
        values: dict[str, Any] = {}
        if path or file.exists():
            try:
                values = tomllib.loads(file.read_text("utf-8"))
            except FileNotFoundError:
                raise ConfigError(f"settings file {file} does not exist; `smartmem init` writes one") from None
            except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
                raise ConfigError(f"settings file {file} is not valid TOML: {error}") from None
            except OSError as error:
                raise ConfigError(f"settings file {file} cannot be read: {error.strerror}") from None
        _drop_overridden(values, cls, "SMARTMEM_")
        try:
            return cls(**values)
        except ValidationError as error:
            raise _named(error, f" (in {file} or in the environment)") from None

    def with_changes(self, changes: dict[str, Any]) -> Settings:
        """These settings with some top-level keys replaced; they win over the environment. Raises `ConfigError`."""
        try:
            return _Fixed(**self.model_dump() | changes)
        except ValidationError as error:
            raise _named(error, "") from None


class _Fixed(Settings):
    """Settings that are complete: neither file nor environment has a say any more."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


def _drop_overridden(values: dict[str, Any], model: type[BaseModel], prefix: str) -> None:
    """Take the file's tables out where the environment has one: they would be merged, and a component named there would
    get the options of the one named here."""
    named = {name.upper() for name in os.environ}
    for name, field in model.model_fields.items():
        default = field.get_default()
        if isinstance(default, BaseModel):
            if isinstance(values.get(name), dict):
                _drop_overridden(values[name], type(default), f"{prefix}{name}__".upper())
        elif f"{prefix}{name}".upper() in named:
            values.pop(name, None)


def _named(error: ValidationError, where: str) -> ConfigError:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    return ConfigError(f"setting {key} = {first.get('input')!r}: {first['msg']}{where}")
