"""Which stretches of a message say one thing: clauses and sentences joined, cut short, or given what `it` means.

A memory has to stand on its own and say one thing: what goes on about it stays with it as long as it is the smaller
part, and what points at something before it takes that along or is dropped.
"""

from __future__ import annotations

from dataclasses import replace

import regex

from smartmem.memory.extract.found import Found
from smartmem.memory.extract.grammar import Grammar
from smartmem.memory.extract.segment import BLANK, Clause, Sentence, mask
from smartmem.memory.similarity import terms
from smartmem.text import language
from smartmem.types import MemoryType

LONGEST = {"en": 2, "zh": 3}  # a fact with what goes on about it, in lengths of the fact itself
CONTEXT, TALE = 90, 60  # the longest sentence that is taken in for what `it` means; the longest rest of one
NEAR = 20  # characters between two clauses that may still say one thing ("…, by the way, …")
_DEICTIC = regex.compile(r"(?:这个|那个|这种|那种|这类|它)(?:了|吧|哈)?$|\b(?:it|them|that)$", regex.IGNORECASE)
_ANAPHORA = regex.compile(
    r"(?:that|those|it|so then|then)\b|那天|那时|那段|那个|这个|这种|那种|这样|每次都这样", regex.IGNORECASE
)
_OF_IT = regex.compile(
    r"(?:(?:her|his|its|their) name|(?:she|he|it|they)(?:'s| is|'re| are)\b|名字?叫|叫|它叫)", regex.IGNORECASE
)
_IT = regex.compile(
    r"(?:i (?:\w+ ){0,2}?(?:love|hate|like|adore|enjoy|find|play|do|use|take|eat|drink|prefer|miss|dread|can't stand) "
    r"(?:it|them|that)\b(?! (?:\w+ )?(?:to|that|when|if)\b)"
    r"|(?:it|they)(?:'s| is| was|'re| are)\b(?! (?:just|only|me|us|my)\b))",
    regex.IGNORECASE,
)
_SO_PLEASE = regex.compile(
    r"(?:(?:and |so )+(?:please )?(?:no|never|don't|leave|skip|keep|always)|please\b)|所以(?:请|别)|请",
    regex.IGNORECASE,
)
_SO = regex.compile(r"(?:and )?so\b|所以|因此", regex.IGNORECASE)
_BECAUSE = regex.compile(r"(?:and |but )?(?:because|since|as (?=i|my|we)|for (?=i |my ))|因为", regex.IGNORECASE)


def stays(last: Found, clause: Clause, body: Clause, known: Grammar) -> bool:
    """Whether an unmatched clause belongs to the fact before it.

    What goes on about it may, as long as the fact itself stays the greater part: a memory is no story.
    """
    if _same_task([last], body, known):
        return True
    length = clause.end - last.start
    if _SO_PLEASE.match(clause.text):
        return True
    return bool(known.continues.match(clause.text)) and length <= LONGEST[language(clause.text)] * last.core


def join(found: list[Found], made: Found, sentence: Sentence, clause: Clause) -> list[Found]:
    """Two clauses of one sentence that say one thing are one fact: of the kind that binds more."""
    if not found:
        return [made]
    last = found[-1]
    gap = made.start - last.end
    if gap <= NEAR and _BECAUSE.match(clause.text):
        return [*found[:-1], replace(last, end=made.end, slot=last.slot or made.slot, core=last.core + made.core)]
    said = sentence.text[made.start - sentence.start : made.end - sentence.start]
    before = sentence.text[last.start - sentence.start : last.end - sentence.start]
    if gap <= NEAR and (_ANAPHORA.match(said) or _DEICTIC.search(said)) and made.kind == MemoryType.CONSTRAINT:
        kind = last.kind if last.kind == MemoryType.PREFERENCE else made.kind
        return [*found[:-1], replace(last, end=made.end, kind=kind, slot=last.slot or made.slot)]
    wishes = (MemoryType.CONSTRAINT, MemoryType.PREFERENCE)
    if gap <= NEAR and last.kind in wishes and made.kind == MemoryType.CONSTRAINT and _SO.match(clause.text):
        return [*found[:-1], replace(last, end=made.end)]
    if gap <= NEAR and last.kind in wishes and made.kind in wishes and (gap <= 2 or terms(said) & terms(before)):
        return [*found[:-1], replace(last, end=made.end, slot=last.slot or made.slot, core=last.core + made.core)]
    alike = made.slot is None or (last.slot is not None and last.slot.partition(":")[0] == made.slot.partition(":")[0])
    if gap <= NEAR and last.kind == made.kind and (alike or made.kind in (MemoryType.TODO_HINT, *wishes)):
        joined = replace(
            last, end=made.end, slot=last.slot or made.slot, confidence=max(last.confidence, made.confidence)
        )
        return [*found[:-1], joined]
    return [*found, made]


def _same_task(found: list[Found], clause: Clause, known: Grammar) -> bool:
    """'The trip is on the 27th, and I have to collect the forms before it' is one thing to do."""
    last_is_todo = bool(found) and found[-1].kind == MemoryType.TODO_HINT
    return last_is_todo and any(rule.pattern.search(clause.text) for rule in known.todos)


def anchor(one: Found, sentence: Sentence, before: Sentence | None, found: list[Found]) -> Found | None:
    """'I owe sudoku an apology. I love it now.': what `it` is stands before it, and without that it says nothing.

    The fact begins with the clauses or the sentence before; None when there is none, or one that says something else.
    """
    said = sentence.text[one.start - sentence.start : one.end - sentence.start]
    if one.retract or not _IT.match(said):
        return one
    end = sentence.end if sentence.end - one.end <= TALE else one.end
    if one.start - sentence.start > NEAR // 2:
        return replace(one, start=sentence.start, end=end)
    if before is None or before.is_question or len(before.text) > CONTEXT or BLANK in before.text:
        return one if one.explicit else None
    if found and found[-1].sentence == one.sentence - 1:
        return one  # the fact before is what it is about; both stand beside each other
    return replace(one, start=before.start, end=end)


def settle(found: list[Found], text: str) -> list[Found]:
    """One fact a slot; what is put in the place of something does not also take it back."""
    kept: list[Found] = []
    for one in found:
        if BLANK in mask(text)[one.start : one.end] and len(mask(text)[one.start : one.end].replace(BLANK, "")) < 8:
            continue
        if kept and (_is_reason(one, kept[-1]) or _goes_on(one, kept[-1], text)):
            kept[-1] = replace(kept[-1], end=one.end, sentence=one.sentence)
            continue
        twin = next((i for i, k in enumerate(kept) if k.slot and k.slot == one.slot and k.retract == one.retract), None)
        if twin is not None:
            kept[twin] = _merge(kept[twin], one)
        else:
            kept.append(one)
    asserted = {one.slot for one in kept if not one.retract and one.slot}
    done: list[Found] = []
    for one in kept:
        if one.retract and not one.explicit and one.slot in asserted:
            continue
        done.append(one)
    return done


def _is_reason(one: Found, before: Found) -> bool:
    """'I can't stand treadmills. I would rather run in sleet': the second says nothing new by itself."""
    both = one.kind == before.kind == MemoryType.PREFERENCE
    return both and one.slot is None and one.sentence - before.sentence == 1 and not one.retract


def _goes_on(one: Found, before: Found, text: str) -> bool:
    """'I got a cat! Her name is Waffles.', 'I hate snaps. Never suggest snap.': one thing in two sentences."""
    if one.retract or before.retract or one.sentence - before.sentence != 1:
        return False
    said, first = text[one.start : one.end], text[before.start : before.end]
    if before.kind == one.kind == MemoryType.FACT and _OF_IT.match(said):
        return True
    wish = before.kind in (MemoryType.PREFERENCE, MemoryType.CONSTRAINT) and one.kind == MemoryType.CONSTRAINT
    return wish and bool(terms(said) & terms(first)) and len(said) <= len(first) * 2


def _merge(first: Found, second: Found) -> Found:
    """Neighbouring sentences become one span; otherwise the later one stands, for people correct themselves."""
    if second.sentence - first.sentence <= 1 and second.kind == first.kind:
        return replace(
            first, end=second.end, sentence=second.sentence, explicit=first.explicit or second.explicit,
            confidence=max(first.confidence, second.confidence),
        )  # fmt: skip
    return second if second.confidence >= first.confidence else first
