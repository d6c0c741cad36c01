"""What the tagger sees of a message: its tokens, and for each the words around it, what its clause and its sentence do
(ask, instruct, forget, name a date or a topic) and what the `rules` extractor says of it.

Features are strings, the same for training and for tagging: a change here asks for `make tagger`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import regex

from smartmem.memory.extract import dates
from smartmem.memory.extract.grammar import Grammar, grammar
from smartmem.memory.extract.rules import RulesExtractor
from smartmem.memory.extract.segment import Clause, Sentence, mask, sentences
from smartmem.memory.extract.signals import is_explicit, is_question, is_standing
from smartmem.memory.facts import Candidate
from smartmem.memory.similarity import stem
from smartmem.memory.topics import topics
from smartmem.text import language

_TOKEN = regex.compile(
    r"\p{Han}|\p{L}+(?=n't\b)|n't\b|'(?:s|m|re|ve|ll|d)\b|[\p{L}\p{M}]+|\d+(?:[.,:]\d+)*|\n|[^\s]", regex.IGNORECASE
)
# Whose facts are features; one for training and tagging, so that both see the same.
RULES = RulesExtractor(max_facts=8)
OUTSIDE = "O"  # the tag of what is not worth keeping
# Stands before the first token: without it a fact at the very beginning would spare the step from outside to inside.
BEGINNING = ["message begins"]
_OWN = frozenset(["i", "me", "my", "mine", "we", "us", "our", "ours", "im", "ive", "我", "咱", "俺"])
_OF_SENTENCE = (
    "hypothetical", "reported", "own_voice", "for_good", "request", "forget", "no_longer", "transient", "told",
    "vague", "past", "points_back",
)  # fmt: skip
_OF_CLAUSE = (
    "hypothetical", "reported", "own_voice", "for_good", "request", "question", "forget", "no_longer", "transient",
    "vague", "past", "lead_in", "continues",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Token:
    """`[start, end)` in code points of the message; `word` is lower case."""

    start: int
    end: int
    word: str


def read(text: str, known: Sequence[Candidate]) -> tuple[list[Token], list[list[str]]]:
    """The tokens of a message and the features of each; `known` are the facts that `RULES` finds in it.

    No feature looks past its sentence or says where in the message that stands: in lists that people write, the fact
    stands where its writer likes to put it, and a tagger learns that before anything else.
    """
    masked = mask(text)
    tokens: list[Token] = []
    features: list[list[str]] = []
    parts = sentences(masked)
    for index, sentence in enumerate(parts):
        # The marks behind a sentence are tokens of it.
        until = parts[index + 1].start if index + 1 < len(parts) else len(masked)
        inside = [Token(m.start(), m.end(), m.group().lower()) for m in _TOKEN.finditer(masked, sentence.start, until)]
        words = [token.word for token in inside]
        made = [_around(words, i) + _form(masked, token) for i, token in enumerate(inside)]
        _add_sentence(sentence, inside, made)
        tokens += inside
        features += made
    _add_rules(tokens, features, known)
    return tokens, features


def _around(words: Sequence[str], i: int) -> list[str]:
    """Words to both sides, alone and in twos, threes and fours."""

    def at(k: int) -> str:
        return words[k] if 0 <= k < len(words) else ("<s>" if k < 0 else "</s>")

    near = [at(i + d) for d in range(-3, 4)]
    found = [f"w{d - 3}={word}" for d, word in enumerate(near)]
    found += [f"b{d - 2}={near[d + 1]}|{near[d + 2]}" for d in range(4)]
    found += [f"t{d - 2}={near[d + 1]}|{near[d + 2]}|{near[d + 3]}" for d in range(3)]
    found += ["q-=" + "|".join(near[:4]), "q+=" + "|".join(near[3:])]
    found += [f"left={words[k]}" for k in range(max(0, i - 8), max(0, i - 3))]
    found += [f"right={words[k]}" for k in range(min(len(words), i + 4), min(len(words), i + 9))]
    return found


def _form(masked: str, token: Token) -> list[str]:
    word = token.word
    if not word.isalpha() or _is_han(word):
        return [f"shape={_shape(masked[token.start : token.end])}"]
    ends = [f"end{k}={word[-k:]}" for k in (2, 3, 4)]
    return [*ends, f"begin={word[:3]}", f"stem={stem(word)}", f"shape={_shape(masked[token.start : token.end])}"]


def _is_han(word: str) -> bool:
    return len(word) == 1 and word >= "\u2e80"


def _shape(word: str) -> str:
    if word.isdigit():
        return "9"
    return "".join("X" if c.isupper() else "x" if c.islower() else "9" if c.isdigit() else c for c in word[:4])


def _add_sentence(sentence: Sentence, tokens: Sequence[Token], features: Sequence[list[str]]) -> None:
    known = grammar(language(sentence.text))
    words = [token.word for token in tokens]
    own = not _OWN.isdisjoint(words)
    shared = [
        f"mark={sentence.mark[:1]}",
        f"size={min(len(words) // 5, 6)}",
        f"own={own}",
        *(f"s{k}={'|'.join(words[:k])}" for k in (1, 2, 3)),
        *(f"s:{name}" for name in _OF_SENTENCE if getattr(known, name).search(sentence.text)),
    ]  # fmt: skip
    does = {"asks": is_question, "explicit": is_explicit, "standing": is_standing}
    shared += [f"s:{name}" for name, test in does.items() if test(sentence, known)]
    if dates.names_date(sentence.text):
        shared.append("s:date")
    for found in features:
        found.extend(shared)
    for clause in sentence.clauses:
        inside = [i for i, token in enumerate(tokens) if clause.start <= token.start < clause.end]
        if inside:
            _add_clause(clause, known, [words[i] for i in inside], [features[i] for i in inside])
    features[0].append("sentence begins")
    features[-1].append("sentence ends")


def _add_clause(clause: Clause, known: Grammar, words: Sequence[str], features: Sequence[list[str]]) -> None:
    shared = [
        *(f"c{k}={'|'.join(words[:k])}" for k in (1, 2, 3)),
        f"ce={words[-1]}", f"ce2={'|'.join(words[-2:])}", f"csize={min(len(words) // 3, 5)}",
        f"cown={not _OWN.isdisjoint(words)}",
        *(f"in={word}" for word in sorted(set(words))),
        *(f"topic={name}" for name in sorted(topics(clause.text))),
        *(f"c:{name}" for name in _OF_CLAUSE if getattr(known, name).search(clause.text)),
        *sorted({f"rule={rule.kind}" for rule in (*known.rules, *known.todos) if rule.pattern.search(clause.text)}),
    ]  # fmt: skip
    if dates.names_date(clause.text):
        shared.append("c:date")
    for found in features:
        found.extend(shared)
    features[0].append("clause begins")
    features[-1].append("clause ends")


def _add_rules(tokens: Sequence[Token], features: Sequence[list[str]], known: Sequence[Candidate]) -> None:
    for fact in known:
        start, end = fact.span or (0, 0)
        kind = "retraction" if fact.action == "retract" else fact.memory_type
        first = True
        for token, found in zip(tokens, features, strict=True):
            if start <= token.start < end:
                found += [f"x={kind}", f"x{'B' if first else 'I'}={kind}", f"sure={round(fact.confidence * 10)}"]
                first = False
