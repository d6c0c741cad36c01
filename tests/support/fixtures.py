"""The servers as fixtures; tests/conftest.py imports them by name.

Servers are per test process (with xdist: one per worker) and start when the first test asks. A test that kills or
restarts one makes its own, as tests/integration/test_support_servers.py does.
"""

from collections.abc import Iterator

import pytest

from tests.support.crash import CrashRunner
from tests.support.mariadb import MariaDBServer
from tests.support.milvus_server import MilvusServer, MilvusUnavailable
from tests.support.openai_server import OpenAIServer


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[MariaDBServer]:
    """No skip when MariaDB is missing: half of what the tests promise would go unproved. The error says what to do."""
    with MariaDBServer() as server:
        yield server


@pytest.fixture
def mariadb_url(mariadb_server: MariaDBServer) -> Iterator[str]:
    """The URL of an empty database of this test's own."""
    with mariadb_server.database() as url:
        yield url


@pytest.fixture(scope="session")
def milvus_server() -> Iterator[MilvusServer]:
    """Skips, with the reason, where the server cannot run (not Linux on x86_64, no network namespace, no package)."""
    server = MilvusServer()
    try:
        server.start()
    except MilvusUnavailable as error:
        server.close()
        pytest.skip(f"no standalone Milvus on this machine: {error}")
    with server:
        yield server


@pytest.fixture
def openai_server() -> Iterator[OpenAIServer]:
    with OpenAIServer() as server:
        yield server


@pytest.fixture(scope="session")
def crash_runner() -> Iterator[CrashRunner]:
    with CrashRunner(preload=["sqlalchemy.dialects.sqlite", "sqlalchemy.dialects.mysql", "pymysql"]) as runner:
        yield runner
