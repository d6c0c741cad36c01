"""The `tagger` extractor: a conditional random field over the words of a message, trained on labelled messages.

It learns from the project's labelled lists (data/labelled) which stretches are worth keeping; what the `rules`
extractor says of a message is one of its features. Where the user asks in so many words to have something kept and the
field finds nothing, the rules have their way. `smartmem tagger train` makes one of your own labelled messages.

Lafferty, McCallum, Pereira (2001), Conditional random fields; the library is CRFsuite (Okazaki 2007).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import resources
from pathlib import Path

import pycrfsuite
import regex

from smartmem.errors import ConfigError
from smartmem.memory.extract import features
from smartmem.memory.extract.base import Extraction, Intent, extractor
from smartmem.memory.extract.features import OUTSIDE, Token
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

LANGUAGES = ("en", "zh")
_NAMES = {name: f"{name}.crfsuite" for name in LANGUAGES}
WINDOW = 2000  # characters read at once: a message of a megabyte must not be held as features
_THAT = regex.compile(r"that (?!one|way|time|is|was)", regex.IGNORECASE)
_COLON = regex.compile(r".*[:：]", regex.DOTALL)
_LETTER = regex.compile(r"\p{L}")
_MARKS = ' \t\r\n.,;:!?。，、；：！？…~～)）」』”"'


@extractor("tagger")
@dataclass(frozen=True, slots=True)
class TaggerExtractor:
    """Options: `max_facts`, the most facts of one message (the most confident stand); `min_probability`, 0 to 1, below
    which a stretch is left out (chosen on the odd halves: 0.5 keeps twice the noise for one fact in a hundred more);
    `models`, a folder with your own `en.crfsuite` or `zh.crfsuite` (a language that it lacks is read by the package's
    own)."""

    max_facts: int = 3
    min_probability: float = 0.65
    models: str | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.min_probability <= 1:
            raise ConfigError(
                f"extractor 'tagger': min_probability={self.min_probability!r} is no probability; write 0 to 1"
            )
        if self.models is not None and not any(_own(self.models, name).is_file() for name in LANGUAGES):
            raise ConfigError(
                f"extractor 'tagger': models={self.models!r} has neither {' nor '.join(_NAMES.values())}; "
                "give a folder that `smartmem tagger train` has written"
            )

    @property
    def concurrency(self) -> int:
        return 1

    def extract(self, message: Message) -> Extraction:
        found: list[Found] = []
        first = Intent.CHITCHAT.value
        for start, text in _windows(message.source_text):
            said = features.RULES.extract(message.model_copy(update={"source_text": text}))
            first = said.intent or first
            found += [one.moved(start) for one in self._read(text, said.facts)]
        if not found:
            return Extraction(intent=first, reason="nothing tagged")
        return extraction(surest(found, self.max_facts), message)

    def _read(self, text: str, known: Sequence[Candidate]) -> list[Found]:
        tokens, seen = features.read(text, known)
        if not tokens:
            return []
        parts = sentences(mask(text))
        model = _model(_path(self.models, language(text)))
        found: list[Found] = []
        for kind, start, end, sure in model.spans(tokens, seen):
            if sure < self.min_probability or _is_material(text, start, parts):
                continue
            over = any(f.action == "retract" and _covers(f, start, end) for f in known)
            one = _found(RETRACTION if over else kind, start, end, sure, text, parts)
            one = replace(one, slot=_slot(one, text, known))
            before = parts[one.sentence - 1] if one.sentence else None
            kept = anchor(one, parts[one.sentence], before, found)
            if kept is not None:
                found.append(kept)
        return settle(found, text) + _asked_for(known, found, parts)


class _Field:
    """A trained model. CRFsuite keeps the sequence at hand inside the tagger, so one thread asks at a time."""

    def __init__(self, path: Path) -> None:
        self._tagger = pycrfsuite.Tagger()
        try:
            self._tagger.open(str(path))
        except ValueError as error:
            raise ConfigError(
                f"{path} is no model of the tagger ({error}); write it anew by `smartmem tagger train`"
            ) from None
        self._lock = threading.Lock()

    def spans(self, tokens: Sequence[Token], seen: list[list[str]]) -> list[tuple[str, int, int, float]]:
        """(kind, start, end, mean probability that its words are worth keeping) of each stretch, in order."""
        with self._lock:
            tags = self._tagger.tag([features.BEGINNING, *seen])[1:]
            keeps = [1 - self._tagger.marginal(OUTSIDE, i) for i in range(1, len(tags) + 1)]
        made: list[tuple[str, int, int]] = []  # kind, first token, one past the last
        for i, tag in enumerate(tags):
            if tag == OUTSIDE:
                continue
            begins, kind = tag[0] == "B", tag[2:]
            if not begins and made and made[-1][0] == kind and made[-1][2] == i:
                made[-1] = (kind, made[-1][1], i + 1)
            else:
                made.append((kind, i, i + 1))
        return [
            (CODES[kind], tokens[first].start, tokens[last - 1].end, sum(keeps[first:last]) / (last - first))
            for kind, first, last in made
        ]


@lru_cache(maxsize=8)
def _model(path: Path) -> _Field:
    return _Field(path)


def _path(folder: str | None, language: str) -> Path:
    if folder is not None and (own := _own(folder, language)).is_file():
        return own
    return Path(str(resources.files("smartmem.memory.extract"))) / "taggers" / _NAMES[language]


def _own(folder: str, language: str) -> Path:
    return Path(folder).expanduser() / _NAMES[language]


def _windows(text: str) -> Iterator[tuple[int, str]]:
    """The text in pieces of whole sentences of at most `WINDOW` characters (a longer sentence is cut)."""
    start = 0
    while len(text) - start > WINDOW:
        ends = [part.end for part in sentences(mask(text[start : start + WINDOW]))[:-1]]
        length = ends[-1] if ends else WINDOW
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


def _asked_for(known: Sequence[Candidate], found: Sequence[Found], parts: Sequence[Sentence]) -> list[Found]:
    """What the user asks to keep, or to forget, in so many words and the field has left out."""
    made: list[Found] = []
    for fact in known:
        start, end = fact.span or (0, 0)
        if fact.is_explicit and not any(one.start < end and start < one.end for one in found):
            made.append(
                Found(
                    kind=fact.memory_type, start=start, end=end, confidence=fact.confidence, slot=fact.slot,
                    sentence=_sentence_at(parts, start),
                    explicit=True, retract=fact.action == "retract",
                )
            )  # fmt: skip
    return made
