"""serve: the workbench over the wire."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Annotated

import typer

from smartmem.cli.common import Database, SettingsFile, UserId, workbench
from smartmem.errors import MissingExtra, needs

if TYPE_CHECKING:
    from smartmem.web import WebTools
    from smartmem.workbench import Workbench

app = typer.Typer(no_args_is_help=True, help="Serve the memories: a REST service, or an MCP server for one user.")


@app.command()
def rest(
    host: Annotated[str, typer.Option("--host", help="address to listen on; beyond this machine put TLS before it")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="port; 0 takes a free one")] = 8765,
    database: Database = None,
    settings: SettingsFile = None,
) -> None:
    """Serve append, recall, explain, list, edit, delete, settings and health over HTTP, until Ctrl-C.

    Keys come from SMARTMEM_API_KEYS (KEY=USERS, e.g. KEY=1 or KEY=*); without any it does not start. Its OpenAPI
    schema is at /openapi.json. Jobs are worked by `smartmem work`, not here.

    \b
    Example:
      smartmem serve rest --port 8765
    """
    from smartmem.serve.keys import Keys
    from smartmem.serve.rest import app as service

    with needs("serve"):
        import uvicorn
    keys = Keys.from_environment()
    with workbench(database, settings) as bench:
        bench.recaller  # noqa: B018 - loads the model now, not in front of the first user
        uvicorn.run(service(bench, keys), host=host, port=port, log_level="warning")


@app.command()
def mcp(
    user: UserId,
    web: Annotated[bool, typer.Option("--web/--no-web", help="offer the web tools that the settings switch on")] = True,
    database: Database = None,
    settings: SettingsFile = None,
) -> None:
    """Serve one user's memories as MCP tools over stdin and stdout, for an assistant that starts this command.

    No tool takes a user: the assistant reaches this user's memories and nobody else's. An assistant that both knows
    the user and reads the web can be talked into telling a page what it knows: --no-web where that matters more.

    \b
    Examples:
      smartmem serve mcp --user 1
      smartmem serve mcp --user 1 --no-web
    """
    from smartmem.serve.mcp import serve

    with workbench(database, settings) as bench:
        serve(bench, user, _web_tools(bench) if web else None)


def _web_tools(bench: Workbench) -> WebTools | None:
    """Memories are worth serving without the web, so a missing extra is a line on stderr here."""
    from smartmem.workbench.web import web_tools

    try:
        return web_tools(bench.settings.web, lambda: bench.embedder)
    except MissingExtra as error:
        logging.getLogger(__name__).warning("the web tools are not offered: %s", error)
        return None
