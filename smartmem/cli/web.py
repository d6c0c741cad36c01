"""web: search, read a page, find evidence; the same tools that an agent gets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from smartmem.cli.common import (
    BAD_INPUT,
    NOT_PASSED,
    UNAVAILABLE,
    AsJson,
    SettingsFile,
    print_error,
    print_json,
    print_table,
    say,
)

if TYPE_CHECKING:
    from smartmem.web import WebTools

app = typer.Typer(
    no_args_is_help=True, help="Web search in two stages: results and pages, then evidence (docs/web.md)."
)

TopK = Annotated[int | None, typer.Option("-k", min=1, help="how many")]
Domains = Annotated[list[str] | None, typer.Option("--domain", help="only this domain; may be given several times")]
Recency = Annotated[int | None, typer.Option("--recency-days", min=1, help="only pages of the last so many days")]


def _tools(settings: Any, *, reading: bool = True) -> WebTools:
    """The tools without stage 2's model, which only `ask` needs.

    Without `reading` only the search: it opens no page, so it does without the extra `web`.
    """
    from smartmem.settings import Settings
    from smartmem.web import WebTools

    known = Settings.load(settings).web
    if not reading:
        off = {"enabled": False}
        known = known.model_copy(
            update={"fetch": known.fetch.model_copy(update=off), "rag": known.rag.model_copy(update=off)}
        )
    return WebTools.from_settings(known)


@app.command()
def search(
    query: Annotated[str, typer.Argument(help="what to look for")],
    k: TopK = None,
    domain: Domains = None,
    recency_days: Recency = None,
    settings: SettingsFile = None,
    json: AsJson = False,
) -> None:
    """Stage 1: the results of the first search service that answers.

    \b
    Example:
      smartmem web search "residence permit renewal" --domain gov.uk --recency-days 365
    """
    from smartmem.web import as_json

    answer = _tools(settings, reading=False).search(query, k, domain or (), recency_days)
    if json:
        print_json(as_json(answer))
    elif answer.results:
        print_table("", ["title", "url", "snippet"], [(r.title, r.url, r.snippet) for r in answer.results])
    _end(answer.observation, json)


@app.command()
def fetch(
    url: Annotated[str, typer.Argument(help="the full address; public http(s) pages only")],
    max_chars: Annotated[int | None, typer.Option("--max-chars", min=1, help="cut the text after so many")] = None,
    settings: SettingsFile = None,
    json: AsJson = False,
) -> None:
    """Stage 1: the main text of one page.

    \b
    Example:
      smartmem web fetch https://example.org/ --max-chars 2000
    """
    from smartmem.web import as_json

    answer = _tools(settings).fetch(url, max_chars)
    if json:
        print_json(as_json(answer))
    elif answer.page is not None:
        say(f"{answer.page.title}\n{answer.page.final_url}\n\n{answer.page.text}")
    _end(answer.observation, json)


@app.command()
def ask(
    question: Annotated[str, typer.Argument(help="one question in plain words")],
    session: Annotated[str, typer.Option("--session", help="evidence of one session never reaches another")] = "cli",
    k: TopK = None,
    domain: Domains = None,
    recency_days: Recency = None,
    settings: SettingsFile = None,
    json: AsJson = False,
) -> None:
    """Stage 2: search, read the pages, and show the spans that answer, verbatim, each with its source.

    \b
    Example:
      smartmem web ask "What does a new residence permit cost?" -k 3
    """
    from smartmem.rag.registry import create
    from smartmem.settings import Settings
    from smartmem.web import as_json
    from smartmem.workbench.web import web_tools

    known = Settings.load(settings)
    tools = web_tools(known.web, lambda: create("embedder", known.embedder))
    answer = tools.ask(question, session, k, domain or (), recency_days)
    if json:
        print_json(as_json(answer))
    elif answer.answer_evidence:
        print_table("", ["score", "evidence", "url"], [(e.score, e.text, e.url) for e in answer.answer_evidence])
        if answer.fallback_reason:
            say(f"note: stage {answer.stage}: {answer.fallback_reason}")
    if not answer.answer_evidence:
        _end(answer.observations[0] if answer.observations else None, json)


@app.command()
def tools(settings: SettingsFile = None) -> None:
    """Print the JSON Schemas of the tools that are switched on, for an agent.

    \b
    Example:
      smartmem web tools
    """
    print_json(_tools(settings).schemas())


def _end(observation: Any, json: bool) -> None:
    """A failure on the web is an observation, not an exception: one line, and a status that says what to do."""
    if observation is None:
        return
    if not json:
        print_error(f"{observation.kind}: {observation.message}; {observation.next_step}")
    if observation.kind == "no_results":
        raise typer.Exit(NOT_PASSED)
    raise typer.Exit(UNAVAILABLE if observation.retryable else BAD_INPUT)
