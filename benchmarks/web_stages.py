"""Stage 1 against stage 2 on the local web: python -m benchmarks.web_stages [--embedder onnx] [--quick]

Prints one line for each search service and stage, with 95 % intervals. Without an embedder stage 2 is lexical.
`--quick` asks Tavily only.
"""

from __future__ import annotations

import argparse
from typing import Any

from smartmem.evaluation.web_stages import METRICS, compare_stages
from smartmem.rag.registry import create
from smartmem.web.local import LocalWeb

SERVICES = ("tavily", "brave", "searxng")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--embedder", help="a name that the registry knows, e.g. onnx")
    options.add_argument("--quick", action="store_true")
    chosen = options.parse_args()
    embedder = create("embedder", chosen.embedder) if chosen.embedder else None
    with LocalWeb() as web:
        for service in SERVICES[:1] if chosen.quick else SERVICES:
            arms: dict[str, Any] = {"stage 1": web.search(service), "stage 2": web.rag(service, embedder=embedder)}
            found = compare_stages(web.questions(), arms)
            for arm in arms:
                figures = [f"{metric} {_shown(found.rows(metric)[arm])}" for metric in METRICS]
                print(f"{service} {arm}: {', '.join(figures)}, p50 {found.latency(arm, 0.5):.0f} ms")
            gain = found.paired("evidence", "stage 2", "stage 1")
            print(f"{service} gain: {gain.difference:+.2f} [{gain.lo:+.2f}, {gain.hi:+.2f}], p {gain.p:.4f}")


def _shown(row: dict[str, Any]) -> str:
    return f"{row['mean']:.2f} [{row['lo']:.2f}, {row['hi']:.2f}]"


if __name__ == "__main__":
    main()
