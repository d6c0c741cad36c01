"""The `rules` extractor: patterns for Chinese and English, offline, the same answer every time.

A message is cut into sentences and clauses; quoted speech is blanked. Questions, hypotheticals, reported speech and
tasks yield nothing. What is left is asked rule by rule. It is better to miss than to keep noise: a clause that no rule
knows is only kept when the user asks for it ("remember …", 记住…).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import regex

from smartmem.memory.extract import dates
from smartmem.memory.extract.base import Extraction, Intent, extractor
from smartmem.memory.extract.grammar import Grammar, Rule, grammar
from smartmem.memory.extract.segment import BLANK, Clause, Sentence, mask, sentences, trim
from smartmem.memory.extract.signals import is_explicit, is_question, is_standing
from smartmem.memory.extract.slots import sensitivity, slot_of
from smartmem.memory.facts import Candidate, Message
from smartmem.memory.similarity import terms
from smartmem.text import language
from smartmem.types import MemoryType

EXPLICIT_CONFIDENCE = 0.9
NEAR = 20  # characters between two clauses that may still say one thing ("…, by the way, …")
# "If I ever tell you X, forget it": nothing is taken back now.
_CONDITIONAL = regex.compile(r"\b(?:if|whenever|when|should) i\b|要是|如果|万一|假如", regex.IGNORECASE)
_DEICTIC = regex.compile(r"(?:这个|那个|这种|那种|这类|它)(?:了|吧|哈)?$|\b(?:it|them|that)$", regex.IGNORECASE)
_ANAPHORA = regex.compile(
    r"(?:that|those|it|so then|then)\b|那天|那时|那段|那个|这个|这种|那种|这样|每次都这样", regex.IGNORECASE
)
_INTENTS = {
    MemoryType.CONSTRAINT.value: Intent.STANDING_INSTRUCTION,
    MemoryType.PREFERENCE.value: Intent.PREFERENCE,
    MemoryType.FACT.value: Intent.PERSONAL_FACT,
    MemoryType.TODO_HINT.value: Intent.PERSONAL_FACT,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """A stretch of the message that says something worth keeping."""

    kind: str
    start: int
    end: int
    confidence: float
    sentence: int
    slot: str | None = None
    explicit: bool = False
    retract: bool = False


@extractor("rules")
@dataclass(frozen=True, slots=True)
class RulesExtractor:
    """Options: `max_facts`, the most facts of one message (the most confident stand)."""

    max_facts: int = 3

    @property
    def concurrency(self) -> int:
        return 1

    def extract(self, message: Message) -> Extraction:
        text = message.source_text
        masked = mask(text)
        parts = sentences(masked)
        found: list[_Found] = []
        intents: list[Intent] = []
        for index, sentence in enumerate(parts):
            known = grammar(language(sentence.text))
            made, intent = _read(sentence, index, known, message)
            found += made
            intents.append(intent)
            if not made:
                found = _point_back(found, sentence, index, known)
        facts = _settle(found, text)
        if not facts:
            return Extraction(intent=_intent(intents), reason="no rule fits")
        facts = sorted(sorted(facts, key=lambda f: -f.confidence)[: self.max_facts], key=lambda f: f.start)
        kinds = [_INTENTS[f.kind] for f in facts if not f.retract]
        return Extraction(
            facts=tuple(_candidate(f, text, message) for f in facts),
            intent=kinds[0] if kinds else Intent.PERSONAL_FACT,
        )


def _read(sentence: Sentence, index: int, known: Grammar, message: Message) -> tuple[list[_Found], Intent]:
    """What one sentence says, and what it is about if it says nothing worth keeping."""
    forget = known.forget.search(sentence.text)
    if forget and not _CONDITIONAL.search(sentence.text):
        return [_retraction(sentence, index, explicit=True)], Intent.PERSONAL_FACT
    explicit = is_explicit(sentence, known)
    if known.hypothetical.search(sentence.text) and not explicit:
        return [], Intent.CHITCHAT
    if is_question(sentence, known) and not explicit:
        return [], Intent.KNOWLEDGE_QA
    if known.request.search(sentence.text) and not explicit and not is_standing(sentence, known):
        return [], Intent.TASK_REQUEST
    found = _clauses(sentence, index, known, message, explicit=explicit)
    if not found and explicit and not known.points_back.search(sentence.text):
        found = _remembered(sentence, index, known, message)
    return found, Intent.CHITCHAT


def _clauses(sentence: Sentence, index: int, known: Grammar, message: Message, *, explicit: bool) -> list[_Found]:
    found: list[_Found] = []
    foreign = False
    over: Clause | None = None
    for clause in sentence.clauses:
        body = _strip(clause, known)
        if known.reported.search(body.text) and not known.own_voice.match(body.text):
            foreign = True
            continue
        if foreign and not known.own_voice.match(clause.text):
            continue
        foreign = False
        rule = _rule(body, sentence, known, message)
        if rule is None and known.no_longer.search(body.text):
            over = clause
            continue
        if rule is None:
            goes_on = known.continues.match(clause.text) or _same_task(found, body, known)
            if found and found[-1].end >= clause.start - 6 and goes_on:
                found[-1] = replace(found[-1], end=clause.end)
            continue
        if rule.kind != MemoryType.TODO_HINT and known.no_longer.search(body.text) and not _negates_food(rule):
            over = clause
            continue
        confidence = EXPLICIT_CONFIDENCE if explicit else rule.confidence
        made = _Found(
            kind=rule.kind,
            start=over.start if over is not None and not found else body.start,
            end=body.end,
            confidence=confidence,
            sentence=index,
            slot=slot_of(rule.kind, body.text, rule.families),
            explicit=explicit,
        )
        found = _join(found, made, sentence)
    if over is not None and not found:
        return [_retraction(sentence, index, explicit=False)]
    return found


def _rule(clause: Clause, sentence: Sentence, known: Grammar, message: Message) -> Rule | None:
    """The first rule that fits a clause. A date makes a todo of what else were a fact."""
    limits = [r for r in known.rules if r.kind == MemoryType.CONSTRAINT and r.pattern.search(clause.text)]
    day = dates.last_day(clause.text, message.occurred_at) if dates.names_date(clause.text) else None
    if day is not None and not (limits and not known.explicit.search(clause.text)):
        for rule in known.todos:
            if rule.pattern.search(clause.text) and not _personal_date(clause.text):
                return rule
    for rule in known.rules:
        if rule.pattern.search(clause.text):
            # A dislike may be of today's weather; what must be kept to is kept to today as well.
            passing = rule.kind != MemoryType.CONSTRAINT and known.transient.search(clause.text)
            return None if passing else rule
    return None


def _personal_date(text: str) -> bool:
    """A birthday is a date without being a thing to do."""
    return slot_of(MemoryType.FACT.value, text, frozenset({"birthday", "id_number", "phone"})) is not None


def _join(found: list[_Found], made: _Found, sentence: Sentence) -> list[_Found]:
    """Two clauses of one sentence that say one thing are one fact: of the kind that binds more."""
    if not found:
        return [made]
    last = found[-1]
    gap = made.start - last.end
    said = sentence.text[made.start - sentence.start : made.end - sentence.start]
    before = sentence.text[last.start - sentence.start : last.end - sentence.start]
    if gap <= NEAR and (_ANAPHORA.match(said) or _DEICTIC.search(said)) and made.kind == MemoryType.CONSTRAINT:
        kind = last.kind if last.kind == MemoryType.PREFERENCE else made.kind
        return [*found[:-1], replace(last, end=made.end, kind=kind, slot=last.slot or made.slot)]
    wishes = (MemoryType.CONSTRAINT, MemoryType.PREFERENCE)
    if gap <= NEAR and last.kind in wishes and made.kind in wishes and (gap <= 2 or terms(said) & terms(before)):
        return [*found[:-1], replace(last, end=made.end, slot=last.slot or made.slot)]
    alike = made.slot is None or last.slot is None or last.slot.partition(":")[0] == made.slot.partition(":")[0]
    if gap <= NEAR and last.kind == made.kind and (alike or made.kind in (MemoryType.TODO_HINT, *wishes)):
        joined = replace(
            last, end=made.end, slot=last.slot or made.slot, confidence=max(last.confidence, made.confidence)
        )
        return [*found[:-1], joined]
    return [*found, made]


def _same_task(found: list[_Found], clause: Clause, known: Grammar) -> bool:
    """'The trip is on the 27th, and I have to collect the forms before it' is one thing to do."""
    last_is_todo = bool(found) and found[-1].kind == MemoryType.TODO_HINT
    return last_is_todo and any(rule.pattern.search(clause.text) for rule in known.todos)


def _strip(clause: Clause, known: Grammar) -> Clause:
    """The clause without the words at its beginning that say nothing."""
    lead = known.lead_in.match(clause.text)
    if lead is None or lead.end() >= len(clause.text):
        return clause
    start = clause.start + lead.end()
    return Clause(start=start, end=clause.end, text=clause.text[lead.end() :])


def _negates_food(rule: Rule) -> bool:
    """'I no longer eat meat' is a new diet, not the end of one."""
    return bool(rule.families and "diet" in rule.families) or rule.kind == MemoryType.PREFERENCE


def _remembered(sentence: Sentence, index: int, known: Grammar, message: Message) -> list[_Found]:
    """What the user asks to keep although no rule knows it: the sentence without the asking."""
    marker = known.explicit.search(sentence.text)
    assert marker is not None  # noqa: S101 - the caller has seen it
    after = (sentence.start + marker.end(), sentence.end)
    before = (sentence.start, sentence.start + marker.start())
    for start, end in (after, before):
        start, end = _bare(sentence, start, end)
        said = sentence.text[start - sentence.start : end - sentence.start]
        if len(terms(said)) >= 2:
            kind = MemoryType.TODO_HINT if dates.last_day(said, message.occurred_at) else MemoryType.FACT
            return [
                _Found(
                    kind=kind.value,
                    start=start,
                    end=end,
                    confidence=EXPLICIT_CONFIDENCE,
                    sentence=index,
                    slot=slot_of(kind.value, said, None),
                    explicit=True,
                )
            ]
    return []


def _bare(sentence: Sentence, start: int, end: int) -> tuple[int, int]:
    """Trim what stands between the marker and what it marks."""
    text = sentence.text
    base = sentence.start
    while start < end and (
        text[start - base] in ":：,，、 \t" or text[start - base : end - base].lower().startswith("that ")
    ):
        start += 5 if text[start - base : end - base].lower().startswith("that ") else 1
    while end > start and text[end - 1 - base] in ":：,，、 \t":
        end -= 1
    return start, end


def _point_back(found: list[_Found], sentence: Sentence, index: int, known: Grammar) -> list[_Found]:
    """'Keep that in mind.': what the sentence before said was meant to be kept."""
    if not (known.points_back.search(sentence.text) and is_explicit(sentence, known)):
        return found
    return [
        replace(f, explicit=True, confidence=EXPLICIT_CONFIDENCE) if f.sentence == index - 1 and not f.retract else f
        for f in found
    ]


def _retraction(sentence: Sentence, index: int, *, explicit: bool) -> _Found:
    return _Found(
        kind=MemoryType.FACT.value,
        start=sentence.start,
        end=sentence.end,
        confidence=0.8,
        sentence=index,
        slot=slot_of("retraction", sentence.text, None),
        explicit=explicit,
        retract=True,
    )


def _settle(found: list[_Found], text: str) -> list[_Found]:
    """One fact a slot; what is put in the place of something does not also take it back."""
    kept: list[_Found] = []
    for one in found:
        if BLANK in mask(text)[one.start : one.end] and len(mask(text)[one.start : one.end].replace(BLANK, "")) < 8:
            continue
        if kept and _is_reason(one, kept[-1]):
            kept[-1] = replace(kept[-1], end=one.end, sentence=one.sentence)
            continue
        twin = next((i for i, k in enumerate(kept) if k.slot and k.slot == one.slot and k.retract == one.retract), None)
        if twin is not None:
            kept[twin] = _merge(kept[twin], one)
        else:
            kept.append(one)
    asserted = {one.slot for one in kept if not one.retract and one.slot}
    done: list[_Found] = []
    for one in kept:
        if one.retract and not one.explicit and one.slot in asserted:
            continue
        done.append(one)
    return done


def _is_reason(one: _Found, before: _Found) -> bool:
    """'I can't stand treadmills. I would rather run in sleet': the second says nothing new by itself."""
    both = one.kind == before.kind == MemoryType.PREFERENCE
    return both and one.slot is None and one.sentence - before.sentence == 1 and not one.retract


def _merge(first: _Found, second: _Found) -> _Found:
    """Neighbouring sentences become one span; otherwise the later one stands, for people correct themselves."""
    if second.sentence - first.sentence <= 1 and second.kind == first.kind:
        return replace(
            first, end=second.end, sentence=second.sentence, explicit=first.explicit or second.explicit,
            confidence=max(first.confidence, second.confidence),
        )  # fmt: skip
    return second if second.confidence >= first.confidence else first


def _candidate(found: _Found, text: str, message: Message) -> Candidate:
    start, end = trim(text, found.start, found.end)
    said = text[start:end]
    day = (
        dates.last_day(said, message.occurred_at) if found.kind == MemoryType.TODO_HINT and not found.retract else None
    )
    return Candidate(
        memory_type=found.kind,
        content=said,
        confidence=found.confidence,
        sensitivity_level=sensitivity(found.kind, said),
        is_explicit=found.explicit,
        ttl_at=dates.end_of(day, message.occurred_at.tzinfo) if day else None,
        slot=found.slot,
        span=(start, end),
        action="retract" if found.retract else "assert",
    )


def _intent(intents: list[Intent]) -> Intent:
    for wanted in (Intent.TASK_REQUEST, Intent.KNOWLEDGE_QA):
        if wanted in intents:
            return wanted
    return Intent.CHITCHAT
