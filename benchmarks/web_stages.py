"""Stage 1 against stage 2 on the local web, for each provider's snippets: python -m benchmarks.web_stages [EMBEDDER]

Prints one line for each search service and stage. EMBEDDER is a name that the registry knows (onnx); without one,
stage 2 is lexical.
"""

from __future__ import annotations

import sys

from smartmem.rag.registry import create
from smartmem.settings import WebRagSettings
from smartmem.web.fetch import WebFetcher
from smartmem.web.measure import Score, compare, load_questions
from smartmem.web.providers import make_providers
from smartmem.web.rag_search import WebRagSearch
from smartmem.web.search import WebSearch
from tests.support.local_web import DATA, KEYS, LocalWeb


def main() -> None:
    embedder = create("embedder", sys.argv[1]) if len(sys.argv) > 1 else None
    print("service   stage  evidence@5  answer@5  wrong source  p50 ms  p95 ms  characters")
    with LocalWeb() as web:
        questions = load_questions(DATA / "questions.jsonl", web.copies())
        fetcher = WebFetcher(web.fetch_settings(), resolver=web.resolver, clock=web.clock)
        for name in ("tavily", "brave", "searxng"):
            settings = web.search_settings(name)
            providers = make_providers(settings, clock=web.clock, env=KEYS)
            search = WebSearch(settings, providers=providers, clock=web.clock)
            rag = WebRagSearch(search, fetcher, WebRagSettings(), embedder=embedder, clock=web.clock)
            found = compare(questions, search, rag)
            print(_line(name, 1, found.stage1))
            print(_line(name, 2, found.stage2), end="")
            print(f"   gain {found.gain:.2f} [{found.gain_low:.2f}, {found.gain_high:.2f}]")


def _line(name: str, stage: int, score: Score) -> str:
    shares = f"{score.evidence_recall:10.2f}{score.answer_recall:10.2f}{score.wrong_source_rate:14.2f}"
    return f"{name:<10}{stage:5d}{shares}{score.latency_p50_ms:8.0f}{score.latency_p95_ms:8.0f}{score.characters:12.0f}"


if __name__ == "__main__":
    main()
