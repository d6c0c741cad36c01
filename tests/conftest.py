"""Shared fixtures. Servers are private, on loopback, in temporary folders; see tests/support."""

from __future__ import annotations

import os

import pytest

from tests.support.cli import Cli
from tests.support.fixtures import (  # noqa: F401 - fixtures are found by name here
    crash_runner,
    mariadb_server,
    mariadb_url,
    milvus_server,
    openai_server,
)
from tests.support.pipeline import any_url, db, sqlite_url  # noqa: F401

# A hub name otherwise takes 85 s to fail; every model in the tests comes from a registry package.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("RAGAS_DO_NOT_TRACK", "true")
os.environ.setdefault("MPLBACKEND", "agg")


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    """The command line, run in this process."""
    return Cli(capsys)
