"""What `smartmem doctor` looks at. It changes nothing: no file, no table and no collection is made by asking."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from packaging.requirements import Requirement
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

from smartmem import __version__
from smartmem.db import schema
from smartmem.db.engine import Database
from smartmem.errors import MissingExtra, SmartMemError, StoreUnavailable
from smartmem.memory.comparators import create_comparator
from smartmem.memory.extract import create_extractor
from smartmem.rag.models import cache_dir
from smartmem.rag.pipeline import Pipeline
from smartmem.settings import FILE, Settings
from smartmem.workbench import Workbench

State = Literal["ok", "absent", "problem"]
_PASSWORD = re.compile(r"(://[^/@:\s]*):[^@\s]*@")
_WEB_KEYS = {"tavily": "TAVILY_API_KEY", "brave": "BRAVE_API_KEY"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One line. `absent` is not there and not needed by these settings; `problem` is needed and does not work."""

    area: str
    name: str
    state: State
    detail: str = ""
    fix: str = ""


def examine(database: str | None, settings: Path | None) -> list[Check]:
    """Look at everything; one check that fails does not keep the others from being made."""
    found = [*_installation(), *_extras(), *_fonts()]
    try:
        known = Settings.load(settings)
        if database is not None:
            known = known.with_changes({"database_url": database})
    except SmartMemError as error:
        found.append(_failed("settings", str(settings or FILE), error))
    else:
        file = settings or Path(FILE)
        where = str(file) if file.exists() else "defaults and environment (no smartmem.toml here)"
        found.append(Check(area="settings", name="file", state="ok", detail=where))
        found += [*_databases(known), *_web(known)]
    return [replace(check, detail=_hidden(check.detail), fix=_hidden(check.fix)) for check in found]


def works(checks: list[Check]) -> bool:
    """Whether all that the settings name works."""
    return not any(check.state == "problem" for check in checks)


def _installation() -> Iterator[Check]:
    yield Check(area="python", name=platform.python_version(), state="ok", detail=f"smartmem {__version__}")
    folder = cache_dir()
    usable = os.access(next(p for p in (folder, *folder.parents) if p.exists()), os.W_OK)
    yield Check(
        area="cache",
        name="folder",
        state="ok" if usable else "problem",
        detail=str(folder),
        fix="" if usable else "name a folder that you may write to in SMARTMEM_CACHE",
    )


def lacking(extra: str) -> list[str]:
    """The packages of an extra that are not here, or not in a version that it takes."""
    return [said for said in map(_lacking, _wanted()[extra]) if said]


def _wanted() -> dict[str, list[Requirement]]:
    """What pip was told when smartmem was installed, by extra; the core's under ""."""
    wanted: dict[str, list[Requirement]] = {}
    for line in importlib.metadata.requires("smartmem") or []:
        requirement = Requirement(line)
        wanted.setdefault(_extra_of(requirement), []).append(requirement)
    return wanted


def _extras() -> Iterator[Check]:
    """One line an extra."""
    wanted = _wanted()
    for extra, requirements in wanted.items():
        own = [requirement for requirement in requirements if requirement.name != "smartmem"]
        if not own:  # a bundle of others, and each of them has its line
            continue
        brought = [
            one for bundle in requirements if bundle not in own for name in bundle.extras for one in wanted[name]
        ]
        lacks = [said for said in map(_lacking, own + brought) if said]
        core = extra == ""
        yield Check(
            area="core" if core else "extra",
            name="smartmem" if core else extra,
            state="ok" if not lacks else "problem" if core else "absent",
            detail=f"missing: {', '.join(lacks)}" if lacks else "",
            fix="" if not lacks else "pip install smartmem" if core else f"pip install 'smartmem[{extra}]'",
        )


def _fonts() -> Iterator[Check]:
    """Charts with Chinese labels need a font that no package brings: without one they say (zh)."""
    from smartmem.viz.figures import FONT_VARIABLE, cjk_font

    try:
        font = cjk_font()
    except MissingExtra:
        return  # no charts at all
    except SmartMemError as error:
        yield _failed("charts", "Chinese font", error)
        return
    fix = "" if font else f"apt-get install fonts-wqy-microhei, or name a font file in {FONT_VARIABLE}"
    yield Check(area="charts", name="Chinese font", state="ok" if font else "absent", detail=font or "", fix=fix)


def _extra_of(requirement: Requirement) -> str:
    if requirement.marker is None:
        return ""
    named = re.search(r'extra == "([^"]+)"', str(requirement.marker))
    return named.group(1) if named else ""


def _lacking(requirement: Requirement) -> str:
    if requirement.marker and not requirement.marker.evaluate({"extra": _extra_of(requirement)}):
        return ""
    try:
        have = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        return requirement.name
    fits = requirement.specifier.contains(have, prereleases=True)
    return "" if fits else f"{requirement.name} {requirement.specifier} (here is {have})"


def _databases(settings: Settings) -> Iterator[Check]:
    """The database and the components that a workbench on it would hold."""
    try:
        db = Database.open(settings.database_url)
    except SmartMemError as error:
        yield _failed("database", "url", error)
        return
    bench = Workbench(settings, db)
    try:
        yield _database(db)
        yield from _components(bench)
    finally:
        bench.close()


def _database(db: Database) -> Check:
    url = make_url(db.engine.url)
    if url.get_backend_name() == "sqlite" and not Path(str(url.database)).exists():
        made = "not there yet; the first import makes it, or `smartmem init --database URL`"
        return Check(area="database", name=db.url, state="ok", detail=made)
    try:
        with db.engine.connect() as conn:
            ask = "SELECT sqlite_version()" if db.dialect == "sqlite" else "SELECT version()"
            server = f"{conn.dialect.name} {conn.execute(text(ask)).scalar_one()}"
            version, newest = schema.version(conn), schema.head()
            if version == newest:
                return Check(area="database", name=db.url, state="ok", detail=f"{server}, schema {version}")
            if version is None:
                made = f"{server}, no tables yet; the first command makes them"
                return Check(area="database", name=db.url, state="ok", detail=made)
            schema.check(conn, db.url)
    except DBAPIError as error:
        fix = "start the server, create the database or correct database_url"
        return Check(area="database", name=db.url, state="problem", detail=f"cannot be used: {error.orig}", fix=fix)
    except SmartMemError as error:
        return _failed("database", db.url, error)
    raise AssertionError("unreachable: a schema that is not the newest is refused above")


def _components(bench: Workbench) -> Iterator[Check]:
    settings = bench.settings
    embedder = _tried("embedder", settings.embedder, lambda: _embedder(bench))
    yield embedder
    if embedder.state == "ok":
        yield _tried("store", settings.store, lambda: _store(bench))
    else:
        fix = "mend the embedder first: the store needs its dimension"
        yield Check(area="store", name=str(settings.store.get("name")), state="problem", detail="not tried", fix=fix)
    yield _tried("chat search", settings.chat_search, lambda: _pipeline(settings.chat_search))
    extractor, comparator = settings.extract.extractor, settings.memory.write.comparator
    yield _tried("extractor", extractor, lambda: create_extractor(extractor))
    yield _tried("comparator", comparator, lambda: create_comparator(comparator))


def _tried(area: str, spec: dict[str, Any], attempt: Callable[[], object]) -> Check:
    name = str(spec.get("name") or spec.get("preset") or "own")
    try:
        said = attempt()
        return Check(area=area, name=name, state="ok", detail=said if isinstance(said, str) else "")
    except SmartMemError as error:
        return _failed(area, name, error)


def _embedder(bench: Workbench) -> str:
    made = bench.embedder
    made.embed_queries(["doctor"])  # an endpoint shows only by a call whether it is there
    model = bench.settings.embedder.get("model")
    return f"{model}, {made.dim} dimensions" if model else f"{made.dim} dimensions"


def _store(bench: Workbench) -> str:
    spec = bench.store_spec
    path = spec.get("path")
    if spec.get("name") == "milvus":
        _import_milvus(lite=path is not None)
        if path is None and not _has_collection(spec):
            return f"{spec['uri']} answers; the first write makes the collection"
    if path is not None and not Path(path).expanduser().exists():
        return f"{path} is not there yet; the first write makes it"
    bench.store.get([])
    return str(path or spec.get("uri", ""))


def _import_milvus(lite: bool) -> None:
    try:
        import pymilvus  # noqa: F401

        if lite:
            import milvus_lite  # noqa: F401
    except ImportError as error:
        raise MissingExtra(error.name or "pymilvus", "milvus") from None


def _has_collection(spec: dict[str, Any]) -> bool:
    """Ask without the store's own constructor, which would make what is missing."""
    import pymilvus

    token = os.environ.get(str(spec.get("token_env", "MILVUS_TOKEN")), "")
    try:
        client: Any = pymilvus.MilvusClient(uri=spec["uri"], token=token, timeout=10)
    except pymilvus.MilvusException as error:
        raise StoreUnavailable(
            f"Milvus at {spec['uri']} cannot be reached: {error.message}; start the server or correct `uri`"
        ) from None
    try:
        return bool(client.has_collection(spec.get("collection", "smartmem")))
    finally:
        client.close()


def _pipeline(spec: dict[str, Any]) -> str:
    made = Pipeline.from_spec(spec)
    try:
        parts = made.spec()
    finally:
        made.close()
    return ", ".join(
        f"{kind} {parts[kind]['name']}" for kind in ("chunker", "embedder", "retriever", "reranker") if kind in parts
    )


def _web(settings: Settings) -> Iterator[Check]:
    """Search providers are optional: without one, web search is off."""
    search = settings.web.search
    if not search.enabled:
        return
    for provider in search.providers:
        key = _WEB_KEYS.get(provider)
        there = bool(os.environ.get(key)) if key else bool(search.searxng_url)
        fix = f"set {key}" if key else "set web.search.searxng_url to your instance"
        yield Check(area="web search", name=provider, state="ok" if there else "absent", fix="" if there else fix)


def _failed(area: str, name: str, error: SmartMemError) -> Check:
    fix = f"pip install 'smartmem[{error.extra}]'" if isinstance(error, MissingExtra) else ""
    return Check(area=area, name=_hidden(name), state="problem", detail=str(error), fix=fix)


def _hidden(said: str) -> str:
    """Without the password of any URL in it: messages of drivers and of parsers may repeat what they were given."""
    return _PASSWORD.sub(r"\1:***@", said)
