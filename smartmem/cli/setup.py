"""doctor, init, migrate: from an installed package to a workbench that works."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from smartmem.cli.common import NOT_PASSED, AsJson, Database, SettingsFile, print_json, print_table, say
from smartmem.errors import ConfigError


def add_to(app: typer.Typer) -> None:
    """Register the commands at the top level."""
    app.command()(doctor)
    app.command()(init)
    app.command()(migrate)


def doctor(database: Database = None, settings: SettingsFile = None, json: AsJson = False) -> None:
    """Say what is installed, reachable and missing, and how to get it. Changes nothing.

    Ends with 0 when everything that the settings name works, else with 1. `absent` is what these settings do not
    need.

    \b
    Examples:
      smartmem doctor
      smartmem doctor --database mysql+pymysql://smartmem@db.example/smartmem --json
    """
    from smartmem.cli.doctor import examine, works

    checks = examine(database, settings)
    if json:
        print_json({"ok": works(checks), "checks": [dataclasses.asdict(check) for check in checks]})
    else:
        print_table("", ["what", "name", "state", "detail"], [(c.area, c.name, c.state, c.detail) for c in checks])
        if any(check.area == "extra" and check.state == "absent" for check in checks):
            say("an absent extra, if you want what it brings: pip install 'smartmem[NAME]'")
        for check in checks:
            if check.fix and check.area != "extra":
                say(f"{check.area} {check.name}: {check.fix}")
        problems = sum(check.state == "problem" for check in checks)
        say(f"{problems} problems" if problems else "everything that these settings name works")
    if not works(checks):
        raise typer.Exit(NOT_PASSED)


def init(
    file: Annotated[Path, typer.Option("--out", help="where to write the settings file")] = Path("smartmem.toml"),
    force: Annotated[bool, typer.Option("--force", help="replace a settings file that is there")] = False,
    database: Database = None,
) -> None:
    """Write a smartmem.toml that shows every setting with its default; with --database, make the tables too.

    A password in the URL is not written to the file: keep such a URL in SMARTMEM_DATABASE_URL.

    \b
    Examples:
      smartmem init
      smartmem init --database sqlite:///memories.db
    """
    from smartmem.cli.settings_file import render

    if file.exists() and not force:
        raise ConfigError(f"{file} is there already; --force replaces it, --out names another file")
    secret = False
    if database is not None:
        from smartmem.db.engine import Database as Store

        store = Store.open(database)
        try:
            store.migrate()
            secret = store.engine.url.password is not None
            say(f"{store.url}: tables are there")
        finally:
            store.close()
    try:
        file.write_text(render(None if secret else database), "utf-8")
    except OSError as error:
        raise ConfigError(f"{file} cannot be written: {error.strerror}; --out names another file") from None
    say(f"wrote {file}")
    if secret:
        say("its URL holds a password, so it is not in the file: export SMARTMEM_DATABASE_URL")
    say("next: smartmem doctor")


def migrate(database: Database = None, settings: SettingsFile = None, json: AsJson = False) -> None:
    """Bring an existing database to the schema of this version. Back it up first; a second run changes nothing.

    \b
    Examples:
      smartmem migrate
      smartmem migrate --database mysql+pymysql://smartmem@db.example/smartmem
    """
    from smartmem.db import schema
    from smartmem.db.engine import Database as Store
    from smartmem.settings import Settings
    from smartmem.workbench import must_exist

    url = database or Settings.load(settings).database_url
    must_exist(url)
    store = Store.open(url)
    try:
        before = store.schema_version()
        store.migrate()
        name = store.url
    finally:
        store.close()
    if json:
        print_json({"database": name, "before": before, "after": schema.head()})
    elif before == schema.head():
        say(f"{name}: schema {before} already, nothing to do")
    else:
        say(f"{name}: schema {before or 'none'} → {schema.head()}")
