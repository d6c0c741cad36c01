"""What the `rules` extractor knows of a language, read from `english.toml` and `chinese.toml`."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import regex

Pattern = regex.Pattern[str]
_ORDER = ("constraint", "preference", "fact")  # what binds most is asked first
# People who type in a hurry leave the apostrophe out: im, ive, dont.
_CONTRACTED = regex.compile(r"\b(i|\w*n|it|that|there|my name)'(m|ve|t|s)\b")
_PIECE = regex.compile(r"(?<!\\p)\{([A-Z_]{3,})\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A way to say something worth keeping. `families`: the slot families that such a text may name, None for any."""

    kind: str
    pattern: Pattern
    confidence: float
    families: frozenset[str] | None = None
    instructs: bool = False  # an imperative, which may be meant for one task only


@dataclass(frozen=True, slots=True, kw_only=True)
class Grammar:
    """Patterns of one language."""

    rules: tuple[Rule, ...]
    todos: tuple[Rule, ...]  # count only together with a date
    lead_in: Pattern  # words at the beginning of a clause that say nothing
    continues: Pattern  # the beginning of a clause that belongs to the one before
    explicit: Pattern  # "remember", 记住
    not_explicit: Pattern  # "I don't remember", 记得你说过
    points_back: Pattern  # "keep that in mind": the marker is about what was said before it
    hypothetical: Pattern  # the whole sentence is about what is not
    reported: Pattern  # from here on somebody else speaks
    own_voice: Pattern  # from here on the user speaks again
    for_good: Pattern  # "always", 以后: an instruction beyond the task at hand
    request: Pattern  # a task for the assistant, now
    question: Pattern  # a question, with or without its mark
    forget: Pattern  # "forget that …", 忘了…吧: out of sight
    no_longer: Pattern  # "I no longer …", 我不再…: over, but it was true
    transient: Pattern  # true today, not worth keeping
    told: Pattern  # before "I …": what follows is a reason, a tale or another's
    vague: Pattern  # speaks of oneself and says nothing that a reader could use later
    past: Pattern  # over and done: a date here is no thing to do


_MARKS = tuple(name for name in Grammar.__annotations__ if name not in ("rules", "todos"))


@cache
def grammar(language: str) -> Grammar:
    """The grammar of `en` or `zh`."""
    name = {"en": "english.toml", "zh": "chinese.toml"}[language]
    table = tomllib.loads(resources.files("smartmem.memory.extract").joinpath(name).read_text("utf-8"))
    words = table["words"]
    marks = {mark: _compiled(table["marks"][mark], words) for mark in _MARKS}
    ordered = sorted(_rules(table["rule"], words), key=lambda rule: _ORDER.index(rule.kind))  # stable within a kind
    return Grammar(rules=tuple(ordered), todos=_rules(table["todo"], words), **marks)


def _rules(entries: Sequence[Mapping[str, Any]], words: Mapping[str, str]) -> tuple[Rule, ...]:
    return tuple(
        Rule(
            kind=entry["kind"],
            pattern=_compiled(entry["patterns"], words),
            confidence=entry["confidence"],
            families=frozenset(entry["families"]) if "families" in entry else None,
            instructs=entry.get("instructs", False),
        )
        for entry in entries
    )


def _compiled(patterns: Sequence[str], words: Mapping[str, str]) -> Pattern:
    whole = "|".join(f"(?:{pattern})" for pattern in patterns)
    while _PIECE.search(whole):
        whole = _PIECE.sub(lambda match: words[match[1]], whole)
    return regex.compile(_CONTRACTED.sub(lambda m: f"{m[1]}'?{m[2]}", whole), regex.IGNORECASE)
