"""doctor, init, migrate: from an installed package to a workbench that works; nothing is made by looking."""

from __future__ import annotations

import sqlite3
import sys
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from smartmem.cli import doctor
from smartmem.db import schema
from smartmem.db.engine import Database
from tests.support.cli import Cli
from tests.support.net import free_port


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("SMARTMEM_DATABASE_URL", "SMARTMEM_STORE", "SMARTMEM_EMBEDDER"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def light(folder: Path, more: str = "") -> None:
    (folder / "smartmem.toml").write_text(
        'embedder = { name = "mock" }\nchat_search = { retriever = "bm25" }\n' + more, "utf-8"
    )


def states(cli: Cli, *words: str, status: int) -> dict[str, dict[str, str]]:
    ran = cli("doctor", "--json", *words)
    assert ran.status == status, ran.out + ran.err
    assert ran.json["ok"] is (status == 0)
    return {f"{check['area']} {check['name']}": check for check in ran.json["checks"]}


def test_a_fresh_folder_is_fine_and_stays_empty(folder: Path, cli: Cli) -> None:
    light(folder)
    found = states(cli, status=0)
    assert found["database sqlite:///smartmem.db"]["detail"].startswith("not there yet")
    assert {name for name in found if name.startswith("extra ")} >= {"extra mysql", "extra milvus", "extra onnx"}
    assert [path.name for path in folder.iterdir()] == ["smartmem.toml"]
    assert "everything that these settings name works" in cli.ok("doctor").out


def take_away(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if `package` were not installed."""
    installed = doctor.importlib.metadata.version

    def version(name: str) -> str:
        if name == package:
            raise doctor.importlib.metadata.PackageNotFoundError(name)
        return installed(name)

    monkeypatch.setattr(doctor.importlib.metadata, "version", version)


def test_a_missing_extra_is_absent_unless_the_settings_need_it(
    folder: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    light(folder)
    take_away("pymilvus", monkeypatch)
    monkeypatch.setitem(sys.modules, "pymilvus", None)
    line = states(cli, status=0)["extra milvus"]
    assert (line["state"], line["fix"]) == ("absent", "pip install 'smartmem[milvus]'")
    assert line["detail"] == "missing: pymilvus"
    assert "pip install 'smartmem[NAME]'" in cli.ok("doctor").out

    light(folder, 'store = { name = "milvus" }\n')
    line = states(cli, status=1)["store milvus"]
    assert (line["state"], line["fix"]) == ("problem", "pip install 'smartmem[milvus]'")


def test_an_extra_that_brings_another_lacks_what_that_one_lacks(
    folder: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    light(folder)
    take_away("pandas", monkeypatch)
    found = states(cli, status=0)
    assert {name for name, check in found.items() if "pandas" in check["detail"]} == {
        "extra eval",
        "extra dask",
        "extra notebooks",
    }


def test_the_demo_asks_for_what_it_lacks_before_it_begins(
    folder: Path, cli: Cli, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its report comes last: without this a core installation worked for a minute and ended with a missing package."""
    monkeypatch.setenv("SMARTMEM_CACHE", str(tmp_path_factory.mktemp("empty")))
    ran = cli("demo")
    assert (ran.status, "smartmem models get bge-small-en multilingual-e5-small" in ran.err) == (2, True)
    take_away("pandas", monkeypatch)
    ran = cli("demo")
    assert (ran.status, "'pandas' is not installed: pip install 'smartmem[demo]'" in ran.err) == (2, True)
    assert list(folder.iterdir()) == []


def test_unreachable_servers_and_passwords(folder: Path, cli: Cli) -> None:
    light(folder, f'store = {{ name = "milvus", uri = "http://127.0.0.1:{free_port()}" }}\n')
    url = f"mysql+pymysql://someone:hunter2@127.0.0.1:{free_port()}/smartmem"
    ran = cli("doctor", "--json", "--database", url)
    assert ran.status == 1
    assert "hunter2" not in ran.out + ran.err
    bad = {check["area"] for check in ran.json["checks"] if check["state"] == "problem"}
    assert bad == {"database", "store"}


@pytest.mark.parametrize("url", ["mysql:/someone:hunter2@host", "nosql://someone:hunter2@host/x"])
def test_a_url_that_is_none(folder: Path, cli: Cli, url: str) -> None:
    light(folder)
    ran = cli("doctor", "--database", url)
    assert ran.status == 1
    assert "database" in ran.out
    assert "hunter2@" not in ran.out.partition("//")[2]


def test_bad_settings_are_a_finding(folder: Path, cli: Cli) -> None:
    light(folder, "[jobs]\nmax_retry = 0\n")
    found = states(cli, status=1)
    (bad,) = [check for check in found.values() if check["state"] == "problem"]
    assert "jobs.max_retry" in bad["detail"]


def test_a_model_that_was_not_fetched(folder: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    light(folder)
    (folder / "smartmem.toml").write_text(
        'embedder = { name = "onnx", model = "bge-m3" }\nchat_search = { retriever = "bm25" }\n', "utf-8"
    )
    found = states(cli, status=1)
    assert "smartmem models get bge-m3" in found["embedder onnx"]["detail"]
    assert found["store memory"]["detail"] == "not tried"


@pytest.mark.mariadb
def test_on_a_server(folder: Path, cli: Cli, mariadb_url: str) -> None:
    light(folder)
    name = make_url(mariadb_url).render_as_string(hide_password=True)
    states_before = states(cli, "--database", mariadb_url, status=0)
    assert any("no tables yet" in check["detail"] for check in states_before.values())
    cli.ok("init", "--out", "other.toml", "--database", mariadb_url)
    database = next(
        c for key, c in states(cli, "--database", mariadb_url, status=0).items() if key.startswith("database")
    )
    assert f"schema {schema.head()}" in database["detail"]
    assert database["name"].split("?")[0] == name.split("?")[0]


def test_init_shows_every_setting_and_keeps_what_is_there(folder: Path, cli: Cli) -> None:
    cli.ok("init")
    before = (folder / "smartmem.toml").read_text("utf-8")
    assert "#max_retry = 6" in before
    ran = cli("init")
    assert ran.status == 2
    assert "--force" in ran.err
    cli.ok("init", "--force", "--database", "sqlite:///mine.db")
    assert 'database_url = "sqlite:///mine.db"' in (folder / "smartmem.toml").read_text("utf-8")
    assert cli.ok("status", "--json").json["database"] == "sqlite:///mine.db"


def test_init_writes_no_password(folder: Path, cli: Cli, mariadb_url: str) -> None:
    url = str(make_url(mariadb_url).render_as_string(hide_password=False))
    ran = cli.ok("init", "--database", url)
    text = (folder / "smartmem.toml").read_text("utf-8")
    password = make_url(url).password
    if password:
        assert str(password) not in text + ran.out
        assert "SMARTMEM_DATABASE_URL" in ran.out
    else:
        assert "database_url = " in text


def test_migrate(folder: Path, cli: Cli) -> None:
    ran = cli("migrate")
    assert ran.status == 3
    assert "there is no database smartmem.db" in ran.err
    cli.ok("init", "--database", "sqlite:///smartmem.db")
    assert "nothing to do" in cli.ok("migrate").out
    assert cli.ok("migrate", "--json").json == {
        "database": "sqlite:///smartmem.db",
        "before": schema.head(),
        "after": schema.head(),
    }


def test_a_schema_that_this_version_does_not_know(folder: Path, cli: Cli) -> None:
    light(folder)
    _made(folder, "9999")
    found = states(cli, status=1)
    assert "install a newer smartmem" in found["database sqlite:///smartmem.db"]["detail"]
    assert cli("migrate").status == 2


def _made(folder: Path, version: str) -> str:
    db = Database.open("sqlite:///smartmem.db")
    db.migrate()
    db.close()
    with sqlite3.connect(folder / "smartmem.db") as raw:
        raw.execute("UPDATE alembic_version SET version_num = ?", (version,))
    raw.close()
    return "sqlite:///smartmem.db"
