"""Where texts may be cut: paragraphs, lines, sentences (zh and en), words."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import regex

from smartmem.rag.chunk.pieces import Span, safe_end

# A CJK stop ends a sentence where it stands, with closing quotes and brackets behind it. A Latin stop needs white
# space or the end of the text after it: "3.14", "e.g.x" and "smartmem.rag" are no ends.
_CLOSERS = r"[\"'”’」』）)\]】》]*"
_END = regex.compile(rf"(?:[。！？；…]+{_CLOSERS}|[.!?]+{_CLOSERS}(?=\s|$)|\n+)")
_ABBREVIATION = regex.compile(
    r"(?:^|[\s(\[\"'“])(?:Mr|Mrs|Ms|Dr|Prof|Sr|Jr|St|vs|etc|e\.g|i\.e|No|Fig|Inc|Ltd|Co|approx|[A-Z])\.$"
)


def sentences(text: str, start: int = 0, end: int | None = None) -> list[Span]:
    """Spans that cover [start, end) without gaps, each ending behind a sentence's end."""
    stop = len(text) if end is None else end
    spans: list[Span] = []
    at = start
    for match in _END.finditer(text, start, stop):
        if match.group().startswith(".") and _ABBREVIATION.search(text[max(at, match.start() - 8) : match.start() + 1]):
            continue
        spans.append((at, match.end()))
        at = match.end()
    if at < stop:
        spans.append((at, stop))
    return spans


def _by_pattern(pattern: str) -> Callable[[str, Span], list[Span]]:
    compiled = regex.compile(pattern)

    def cut(text: str, span: Span) -> list[Span]:
        ends = [m.end() for m in compiled.finditer(text, *span)]
        marks = sorted({span[0], *ends, span[1]})
        return list(pairwise(marks))

    return cut


_LEVELS: tuple[Callable[[str, Span], list[Span]], ...] = (
    _by_pattern(r"\n\s*\n"),
    _by_pattern(r"\n"),
    lambda text, span: sentences(text, *span),
    _by_pattern(r"[，、：,:;]\s*"),
    _by_pattern(r"\s+"),
)


def descend(text: str, span: Span, size: int, measure: Callable[[Span], int], level: int = 0) -> list[Span]:
    """Cut `span` at the coarsest borders that leave no piece above `size` (in `measure`'s unit), without gaps.

    Pieces that no border divides are cut between grapheme clusters.
    """
    if measure(span) <= size:
        return [span]
    if level == len(_LEVELS):
        pieces: list[Span] = []
        start = span[0]
        while start < span[1]:
            end = min(safe_end(text, start, start + max(1, size)), span[1])
            # A unit may be smaller than a character (byte tokens): halve until the piece fits.
            while measure((start, end)) > size and end - start > 1:
                end = safe_end(text, start, start + max(1, (end - start) // 2))
            pieces.append((start, end))
            start = end
        return pieces
    return [p for part in _LEVELS[level](text, span) for p in descend(text, part, size, measure, level + 1)]


def merged(spans: list[Span], size: int, measure: Callable[[Span], int], overlap: int = 0) -> list[Span]:
    """Join neighbours up to `size`; each joined piece begins with the last spans of the one before that fit into
    `overlap`."""
    made: list[Span] = []
    first = 0
    while first < len(spans):
        last = first
        while last + 1 < len(spans) and measure((spans[first][0], spans[last + 1][1])) <= size:
            last += 1
        made.append((spans[first][0], spans[last][1]))
        if last + 1 == len(spans):
            break
        following = last + 1
        while following - 1 > first and overlap and measure((spans[following - 1][0], spans[last][1])) <= overlap:
            following -= 1
        first = following
    return made
