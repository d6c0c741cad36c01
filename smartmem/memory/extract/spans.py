"""From the stretches of a message that a trained extractor has tagged to facts, the same way for all of them.

Openers are cut off, "it" gets the sentence before it, what the user asks for in so many words is kept whatever was
tagged, and slots come from the rules or the words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import regex

from smartmem.errors import ConfigError
from smartmem.memory.extract import features
from smartmem.memory.extract.base import Extraction, Intent
from smartmem.memory.extract.found import EXPLICIT_CONFIDENCE, Found, extraction, surest
from smartmem.memory.extract.grammar import Grammar, grammar
from smartmem.memory.extract.joining import anchor, settle
from smartmem.memory.extract.labelled import CODES, RETRACTION
from smartmem.memory.extract.segment import Sentence, mask, sentences
from smartmem.memory.extract.signals import is_explicit
from smartmem.memory.extract.slots import slot_of
from smartmem.memory.facts import Candidate, Message
from smartmem.text import language
from smartmem.types import MemoryType

UNSURE_FROM = 0.5  # the probability from which a stretch may still change what is known: no is not likelier than yes
WINDOW = 2000  # characters read at once: a message of a megabyte must not be held as features
_THAT = regex.compile(r"that (?!one|way|time|is|was)", regex.IGNORECASE)
# Labelled lists begin with few greetings: behind one and a comma, a plain statement went unseen ("I have opened a tea
# shop in Chengdu", in Chinese).
_GREETING = regex.compile(
    r"\s*(?:hi|hello|hey|good (?:morning|afternoon|evening)|你好|您好|嗨|哈喽|早安|早上好|下午好|晚上好|大家好)"
    r"(?: there)?[呀啊]?(?:\s*[,，!！.。~～]+\s*|\s+(?=(?:i|im|i'm|my|we)\b))",
    regex.IGNORECASE,
)
_COLON = regex.compile(r".*[:：]", regex.DOTALL)
_LETTER = regex.compile(r"\p{L}")
_CODE = {kind: code for code, kind in CODES.items()}
_MARKS = " \t\r\n.,;:!?。，、；：！？…~～)）」』”\"'"


class Span(NamedTuple):
    """A tagged stretch `[start, end)` in code points: `kind` is a memory type or `retraction`, `sure` 0 to 1."""

    kind: str
    start: int
    end: int
    sure: float


# The text and what the rules find in it → its spans in order.
Tag = Callable[[str, Sequence[Candidate]], Sequence[Span]]


def facts_by(tag: Tag, message: Message, *, min_probability: float, max_facts: int, window: int = WINDOW) -> Extraction:
    """What `tag` finds in a message; spans less sure than `min_probability` are left out or, from `UNSURE_FROM` on,
    unsure: "the bridge evening has moved" says little by itself, and much to who knows of the bridge evening."""
    found: list[Found] = []
    unsure: list[Found] = []
    first = Intent.CHITCHAT.value
    for start, text in _windows(message.source_text, window):
        said = features.RULES.extract(message.model_copy(update={"source_text": text}))
        first = said.intent or first
        parts = sentences(mask(text))
        if not parts:
            continue
        spans = tag(text, said.facts)
        here = _read(text, parts, said.facts, [span for span in spans if span.sure >= min_probability])
        here += _asked_for(said.facts, here, parts)
        found += [one.moved(start) for one in here]
        if maybe := [span for span in spans if UNSURE_FROM <= span.sure < min_probability]:
            more = _read(text, parts, said.facts, maybe)
            unsure += [one.moved(start) for one in more if not _taken(one.start, one.end, here)]
    made = extraction(surest(found, max_facts), message, surest(unsure, max_facts))
    if found:
        return made
    return replace(made, intent=first, reason="nothing but what is unsure" if unsure else "nothing tagged")


def marked(count: int, inside: Iterable[tuple[str, Sequence[int]]]) -> list[str]:
    """The tags of `count` pieces of which some lie inside something of a kind: `B-f` on the first piece of a fact,
    `I-f` on its others, `O` on what is not worth keeping. `stretches` reads them back."""
    tags = [features.OUTSIDE] * count
    for kind, places in inside:
        for i in places:
            tags[i] = f"{'B' if i == places[0] else 'I'}-{_CODE[kind]}"
    return tags


def stretches(tags: Sequence[str], places: Sequence[tuple[int, int]], keeps: Sequence[float]) -> list[Span]:
    """The spans that tags like `B-f`, `I-f`, `O` make of pieces with these places; a span is as sure as the mean of
    the probabilities that its pieces are worth keeping."""
    made: list[tuple[str, int, int]] = []  # kind, first piece, one past the last
    for i, tag in enumerate(tags):
        if tag == features.OUTSIDE:
            continue
        begins, kind = tag[0] == "B", tag[2:]
        if not begins and made and made[-1][0] == kind and made[-1][2] == i:
            made[-1] = (kind, made[-1][1], i + 1)
        else:
            made.append((kind, i, i + 1))
    return [
        Span(CODES[kind], places[first][0], places[last - 1][1], sum(keeps[first:last]) / (last - first))
        for kind, first, last in made
    ]


def check_probability(name: str, value: float) -> None:
    """Raises `ConfigError` unless `value` is one."""
    if not 0 <= value <= 1:
        raise ConfigError(f"extractor {name!r}: min_probability={value!r} is no probability; write 0 to 1")


def _read(text: str, parts: Sequence[Sentence], known: Sequence[Candidate], spans: Sequence[Span]) -> list[Found]:
    found: list[Found] = []
    for kind, start, end, sure in spans:
        if _is_material(text, start, parts):
            continue
        over = any(f.action == "retract" and _covers(f, start, end) for f in known)
        one = _found(RETRACTION if over else kind, start, end, sure, text, parts)
        one = replace(one, slot=_slot(one, text, known))
        before = parts[one.sentence - 1] if one.sentence else None
        kept = anchor(one, parts[one.sentence], before, found)
        if kept is not None:
            found.append(kept)
    return settle(found, text)


def _windows(text: str, window: int) -> Iterator[tuple[int, str]]:
    """The text behind its greeting in pieces of whole sentences of at most `window` characters (a longer sentence is
    cut)."""
    greeting = _GREETING.match(text)
    start = greeting.end() if greeting else 0
    while len(text) - start > window:
        ends = [part.end for part in sentences(mask(text[start : start + window]))[:-1]]
        length = ends[-1] if ends else window
        yield start, text[start : start + length]
        start += length
    yield start, text[start:]


def _sentence_at(parts: Sequence[Sentence], place: int) -> int:
    """The number of the last sentence that begins at or before `place`."""
    return max((i for i, part in enumerate(parts) if part.start <= place), default=0)


def _found(kind: str, start: int, end: int, sure: float, text: str, parts: Sequence[Sentence]) -> Found:
    index = _sentence_at(parts, start)
    sentence = parts[index]
    known = grammar(language(sentence.text))
    after = parts[index + 1] if index + 1 < len(parts) else None
    explicit = is_explicit(sentence, known) or bool(
        after and known.points_back.search(after.text) and is_explicit(after, known)
    )
    taken_back = kind == RETRACTION
    if taken_back:
        # What is taken back is looked for by all the words of the sentence that asks for it.
        start, end, kind = sentence.start, max(end, sentence.end), MemoryType.FACT.value
    else:
        start, end = _bare(text, start, end, known)
    return Found(
        kind=kind,
        start=start,
        end=end,
        confidence=max(sure, EXPLICIT_CONFIDENCE) if explicit else sure,
        sentence=index,
        explicit=explicit or (taken_back and known.forget.search(sentence.text) is not None),
        retract=taken_back,
    )


def _is_material(text: str, start: int, parts: Sequence[Sentence]) -> bool:
    """ "Translate this: I live in Rome.": what stands behind the colon of a task is what it is about."""
    asked = _COLON.match(text, parts[_sentence_at(parts, start)].start, start)
    return asked is not None and grammar(language(asked[0])).request.search(asked[0]) is not None


def _covers(fact: Candidate, start: int, end: int) -> bool:
    """ "I'm not a vegetarian any more" looks like a fact: the rules know what says that something is over."""
    first, last = fact.span or (0, 0)
    return first <= start and end <= last


def _slot(one: Found, text: str, known: Sequence[Candidate]) -> str | None:
    """The slot that `rules` gives what it finds there, for a rule knows what it is about; else by the words."""
    said = text[one.start : one.end]
    if one.retract:
        return slot_of(RETRACTION, said, None)
    for fact in known:
        start, end = fact.span or (0, 0)
        if fact.memory_type == one.kind and fact.slot and one.start <= start and end <= one.end:
            return fact.slot
    return slot_of(one.kind, said, None)


def _bare(text: str, start: int, end: int, known: Grammar) -> tuple[int, int]:
    """The stretch without "by the way", "please note that" before it and marks behind it."""
    while end > start + 1 and text[end - 1] in _MARKS:
        end -= 1
    for opener in (known.lead_in, known.explicit, _THAT):
        said = opener.match(text, start, end)
        if said and said.end() < end - 1 and _LETTER.search(text, said.end(), end):
            start = said.end()
            while text[start] in _MARKS:
                start += 1
    return start, end


def _taken(start: int, end: int, found: Sequence[Found]) -> bool:
    """Whether something found lies in that stretch."""
    return any(one.start < end and start < one.end for one in found)


def _asked_for(known: Sequence[Candidate], found: Sequence[Found], parts: Sequence[Sentence]) -> list[Found]:
    """What the user asks to keep, or to forget, in so many words and the model has left out."""
    made: list[Found] = []
    for fact in known:
        start, end = fact.span or (0, 0)
        if fact.is_explicit and not _taken(start, end, found):
            made.append(
                Found(
                    kind=fact.memory_type, start=start, end=end, confidence=fact.confidence, slot=fact.slot,
                    sentence=_sentence_at(parts, start),
                    explicit=True, retract=fact.action == "retract",
                )
            )  # fmt: skip
    return made
