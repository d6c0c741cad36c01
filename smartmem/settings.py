"""Every number that SPEC names, as a setting: defaults here, then `smartmem.toml`, then `SMARTMEM_…` variables.

Nested names take two underscores in the environment: `SMARTMEM_JOBS__MAX_RETRY=3`. Unknown keys are refused.
Secrets (API keys) are read from the environment only, never from the file.
"""

from __future__ import annotations

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
    max_retry: int = Field(20, ge=1)
    retention_days: float = Field(7, ge=0, description="consumed rows are pruned after this time, never before")


class JobSettings(LeaseSettings):
    max_retry: int = Field(6, ge=1)
    batch: int = Field(200, ge=1)
    workers: int = Field(1, ge=1)
    poll_s: float = Field(1.0, gt=0, description="longest wait between two looks; wake-ups shorten it")
    retention_days: float = Field(30, ge=0, description="finished jobs and their history are pruned after this time")


class ExtractSettings(_Section):
    extractor: dict[str, Any] = {"name": "rules"}
    max_chars: int = Field(1500, ge=1)
    max_facts: int = Field(3, ge=1)
    min_confidence: float = Field(0.5, ge=0, le=1)
    fallback: Literal["rules", "mock", "none"] = "none"


class WriteSettings(_Section):
    mode: Literal["legacy", "shadow", "decision"] = "decision"
    comparator: dict[str, Any] = {"name": "rules"}
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


class Settings(BaseSettings):
    """All settings of a workbench. `Settings.load()` reads the file in the current folder, if there is one."""

    model_config = SettingsConfigDict(
        env_prefix="SMARTMEM_", env_nested_delimiter="__", extra="forbid", frozen=True, toml_file=None
    )

    database_url: str = "sqlite:///smartmem.db"
    embedder: dict[str, Any] = {"name": "onnx", "model": "bge-small-en"}
    store: dict[str, Any] = Field({"name": "memory"}, description="a path beside the database is filled in")
    outbox: OutboxSettings = OutboxSettings()
    jobs: JobSettings = JobSettings()
    extract: ExtractSettings = ExtractSettings()
    memory: MemorySettings = MemorySettings()
    recall: RecallSettings = RecallSettings()
    rerank: RerankSettings = RerankSettings()

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
        try:
            return cls(**values)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"])
            raise ConfigError(
                f"setting {key} = {first.get('input')!r}: {first['msg']} (in {file} or SMARTMEM_…)"
            ) from None
