"""Cutting a message into sentences and clauses, with exact offsets, and masking what the user does not say herself.

Every piece is a pair of offsets into the message. Quoted speech, code and links are blanked in place, so that
patterns never look inside and offsets stay right.
"""

from __future__ import annotations

from dataclasses import dataclass

import regex

from smartmem.text import simplified

_CODE = regex.compile(r"```.*?(?:```|\Z)|`[^`\n]+`|https?://\S+", regex.DOTALL)
_QUOTED = regex.compile(r"\"[^\"\n]{2,}?\"|“[^”]{2,}?”|「[^」]{2,}?」|『[^』]{2,}?』|(?<!\w)‘[^’]{4,}?’(?!\w)")
# They open a quotation only where one is expected: after a colon, a space or a bracket, around several words.
_SINGLE = regex.compile(r"(?<![^\s:：(,])'(?=\p{L})(?=[^'\n]*\s)(?:[^'\n]|(?<=\p{L})'(?=\p{L}))+[.!?,]?'(?!\p{L})")
_APOSTROPHE = regex.compile(r"(?<=\p{L})’(?=\p{L})")
BLANK = "\u25a1"  # no letter, no space, no mark: nothing matches it by accident

_SENTENCE_END = regex.compile(
    r"[。！？!?…⋯]+[”」』\"')）]*"
    r"|(?<!\b(?:[A-Z]|Dr|Mr|Mrs|Ms|St|Prof|vs|etc|e\.g|i\.e|No|approx))\.(?=[\s\"”')]|$)+[\"”')]*"
    r"|\r?\n+|[;；]|(?<=[\p{Extended_Pictographic}])\s+(?=\p{Lu})"
)
_CLAUSE_END = regex.compile(
    r"[,，、:：—–]+|\s-\s|(?<=\p{Han})[ \u3000]+(?=\p{Han})"
    r"|(?<!\b(?:my|our) \w{2,14})\s(?=(?:and|but|so|because|since|although|though|while|otherwise|plus)\s+"
    r"(?:then\s+|now\s+|also\s+)?"
    r"(?:i|i'm|i've|i'd|i'll|i’m|i’ve|my|we|he|she|they|it|it's|it’s|the|that|that's|there|there's|after|before|please|nobody|a|remember)\b)",
    regex.IGNORECASE,
)
# "My eldest, Noor, is starting school": the commas part nothing.
_APPOSITION = regex.compile(
    r"\b(?:[Mm]y|[Oo]ur) (?:[\w'-]+ )?[\w'-]+, (?:\p{Lu}\w+|(?:a|an|the|who|which|called) [\w' -]{2,30}), "
    r"(?=(?:is|was|has|will|can|lives?|works?|plays?|stud\w+|turn\w*|start\w*|moved|teaches|runs|goes|comes|keeps|speaks)\b)"
)
# "…, always": the last word of an instruction is no clause of its own.
_TAIL = regex.compile(
    r",\s(?:always|every (?:single )?time|without exception|no exceptions|at all times)(?=[.!?…\s]*$)", regex.IGNORECASE
)
_MARK = regex.compile(r"[,，、:：—–;]")
_LEADS_ON = (
    "and but so that when if because where which as than what how who whom whose only before after while until till "
    "since think thought know knew guess hope wish believe said say says sure though although like the a way thing "
    "things time one ones everything all me or why whenever unless once then remember forget"
).replace(" ", "|")
_RUN_ON = regex.compile(
    rf"{_CLAUSE_END.pattern}|(?<!\b(?:{_LEADS_ON}))\s(?=i (?:am|was|have|live|work|had|love|hate)\b)", regex.IGNORECASE
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Clause:
    """A stretch of a sentence; `joined`: it is tied to the one before by a comma, not by a new subject."""

    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sentence:
    """A sentence with its offsets; `text` is masked, `mark` is what ends it."""

    start: int
    end: int
    text: str
    mark: str
    clauses: tuple[Clause, ...]

    @property
    def is_question(self) -> bool:
        return "?" in self.mark or "？" in self.mark


def mask(text: str) -> str:
    """Blank code, links and quoted speech, write apostrophes one way and Chinese in simplified characters; the length
    stays the same."""
    hidden = _SINGLE.sub(_blank, _QUOTED.sub(_blank, _CODE.sub(_blank, text)))
    return simplified(_APOSTROPHE.sub("'", hidden))


def has_quote(text: str) -> bool:
    """Whether somebody else's words stand in quotation marks."""
    return _QUOTED.search(text) is not None


def sentences(masked: str) -> list[Sentence]:
    """The sentences of a masked text, in order; blank ones are left out."""
    found: list[Sentence] = []
    start = 0
    for match in _SENTENCE_END.finditer(masked):
        _keep(found, masked, start, match.start(), match.group())
        start = match.end()
    _keep(found, masked, start, len(masked), "")
    return found


def trim(text: str, start: int, end: int) -> tuple[int, int]:
    """Move offsets inwards past white space."""
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return start, end


def _keep(found: list[Sentence], masked: str, start: int, end: int, mark: str) -> None:
    start, end = trim(masked, start, end)
    if start < end:
        clauses = tuple(_clauses(masked, start, end))
        found.append(Sentence(start=start, end=end, text=masked[start:end], mark=mark.strip(), clauses=clauses))


def _clauses(masked: str, start: int, end: int) -> list[Clause]:
    made: list[Clause] = []
    begin = start
    # Who writes without any mark begins a new statement by its subject.
    ends = _CLAUSE_END if _MARK.search(masked[start:end]) else _RUN_ON
    inside = [(m.start(), m.end()) for known in (_APPOSITION, _TAIL) for m in known.finditer(masked, start, end)]
    for match in ends.finditer(masked, start, end):
        if _in_number(masked, match) or any(first <= match.start() < last for first, last in inside):
            continue
        _add(made, masked, begin, match.start())
        begin = match.end()
    _add(made, masked, begin, end)
    return made


def _in_number(masked: str, match: regex.Match[str]) -> bool:
    """The comma of 1,612 and the colon of 14:00 end no clause."""
    before, after = masked[match.start() - 1 : match.start()], masked[match.end() : match.end() + 1]
    return before.isdigit() and after.isdigit()


def _add(made: list[Clause], masked: str, start: int, end: int) -> None:
    start, end = trim(masked, start, end)
    if start < end:
        made.append(Clause(start=start, end=end, text=masked[start:end]))


def _blank(match: regex.Match[str]) -> str:
    return BLANK * len(match.group())
