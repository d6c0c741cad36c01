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
from smartmem.memory.extract.found import EXPLICIT_CONFIDENCE, Found, extraction, surest
from smartmem.memory.extract.grammar import Grammar, Rule, grammar
from smartmem.memory.extract.joining import anchor, join, settle, stays
from smartmem.memory.extract.segment import Clause, Sentence, mask, sentences
from smartmem.memory.extract.signals import is_explicit, is_question, is_standing
from smartmem.memory.extract.slots import slot_of
from smartmem.memory.facts import Message
from smartmem.memory.similarity import terms
from smartmem.text import language
from smartmem.types import MemoryType

SURE = 0.65  # what stands beside a question is kept only if its rule is a strong one
# "If I ever tell you X, forget it": nothing is taken back now.
_CONDITIONAL = regex.compile(r"\b(?:if|whenever|when|should) i\b|要是|如果|万一|假如", regex.IGNORECASE)
# Takes back no more than what was said a moment ago.
_CORRECTION = regex.compile(
    r"(?:no,? |wait,? |sorry,? )*(?:scratch|forget|cancel|strike) (?:that|it|what i said)(?: one)?$", regex.IGNORECASE
)
_PARTICULAR = regex.compile(r"\b(?i:i|i'm|i've|im|my|mine|me)\b|\d|(?<=[\w,] )\p{Lu}")
_HAN = regex.compile(r"\p{Han}")
_YEARLY = regex.compile(r"\banniversary\b|纪念日", regex.IGNORECASE)
_OWN_ZH = regex.compile(r"我(?!们|爸|妈|哥|姐|弟|妹|的|老|家|朋友|同事|同学|儿|女|爱人|对象)")
_DROPS = regex.compile(
    r"(?![我你您他她它咱俺这那谁人请别]|大家|所以|就是|但|不过|结果|可|因为|如果|要是|老板|同事|朋友|老师|今天|昨天)"
)
# How a sentence about oneself begins without any subject.
_OPENS = regex.compile(
    r"(?:现在|目前|如今|平时|平生|一直|从小|向来|最近|正)*(?:在(?!想|吗|不|看)|住|姓|最爱|偏爱|不爱|不吃|不喝|爱吃|爱喝|爱听|爱看|喜欢|讨厌|受不了|吃不了|怕(?!是)|学的|养了|做了|教了|查出|确诊|怀孕|怀了)"
)


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
        found: list[Found] = []
        intents: list[Intent] = []
        task = False
        for index, sentence in enumerate(parts):
            known = grammar(language(sentence.text))
            made, intent = _read(sentence, index, known, message)
            task = task or intent is Intent.TASK_REQUEST
            # "Translate this. Don't use slang.": what is asked of one text is no standing instruction.
            made = [one for one in made if not (task and one.kind == MemoryType.CONSTRAINT and one.bare)]
            before = parts[index - 1] if index else None
            made = [anchored for one in made if (anchored := anchor(one, sentence, before, found)) is not None]
            found += made
            intents.append(intent)
            if not made:
                found = _point_back(found, sentence, index, known)
        facts = settle(found, text)
        if not facts:
            return Extraction(intent=_intent(intents), reason="no rule fits")
        return extraction(surest(facts, self.max_facts), message)


def _read(sentence: Sentence, index: int, known: Grammar, message: Message) -> tuple[list[Found], Intent]:
    """What one sentence says, and what it is about if it says nothing worth keeping."""
    forget = known.forget.search(sentence.text)
    if forget and not _CONDITIONAL.search(sentence.text):
        instead = _said_instead(sentence, index, known, message)
        if instead:
            return instead, Intent.PERSONAL_FACT
        return [_retraction(sentence, index, explicit=True)], Intent.PERSONAL_FACT
    explicit = is_explicit(sentence, known)
    if known.hypothetical.search(sentence.text) and not explicit:
        return [], Intent.CHITCHAT
    if is_question(sentence, known) and not explicit:
        told = _told_before_asking(sentence, known)
        found = _clauses(told, index, known, message, explicit=False) if told else []
        return [one for one in found if one.confidence >= SURE], Intent.KNOWLEDGE_QA
    if known.request.search(sentence.text) and not explicit and not is_standing(sentence, known):
        return [], Intent.TASK_REQUEST
    found = _clauses(sentence, index, known, message, explicit=explicit)
    if not found and explicit and not known.points_back.search(sentence.text):
        found = _remembered(sentence, index, known, message)
    return found, Intent.CHITCHAT


def _said_instead(sentence: Sentence, index: int, known: Grammar, message: Message) -> list[Found]:
    """'Scratch that, the interview is on Tuesday now.': a correction, not a request to forget."""
    first, rest = sentence.clauses[:1], sentence.clauses[1:]
    if not rest or not _CORRECTION.match(first[0].text) or any(known.forget.search(clause.text) for clause in rest):
        return []
    return _clauses(replace(sentence, clauses=rest), index, known, message, explicit=False)


def _told_before_asking(sentence: Sentence, known: Grammar) -> Sentence | None:
    """'I'm vegetarian, so what can I cook?' tells something before it asks: the clauses before the asking one."""
    told = sentence.clauses[:-1]
    asks = sentence.clauses[-1] if sentence.clauses else None
    if asks is None or not told or not known.question.search(_strip(asks, known).text):
        return None
    if not all(known.own_voice.match(_strip(clause, known).text) for clause in told):
        return None
    if any(known.question.search(clause.text) or _CONDITIONAL.search(clause.text) for clause in told):
        return None
    end = told[-1].end
    return Sentence(
        start=sentence.start, end=end, text=sentence.text[: end - sentence.start], mark="", clauses=tuple(told)
    )


def _clauses(sentence: Sentence, index: int, known: Grammar, message: Message, *, explicit: bool) -> list[Found]:
    found: list[Found] = []
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
        rule = _rule(body, sentence, known, message) or _rule_of_dropped_subject(body, clause, sentence, known, message)
        if rule is None and known.no_longer.search(body.text):
            over = clause
            continue
        if rule is None:
            if found and found[-1].end >= clause.start - 6 and stays(found[-1], clause, body, known):
                found[-1] = replace(found[-1], end=clause.end)
            continue
        if rule.kind != MemoryType.TODO_HINT and known.no_longer.search(body.text) and not _negates_food(rule):
            over = clause
            continue
        confidence = EXPLICIT_CONFIDENCE if explicit else rule.confidence
        made = Found(
            kind=rule.kind,
            start=over.start if over is not None and not found else body.start,
            end=body.end,
            confidence=confidence,
            sentence=index,
            slot=slot_of(rule.kind, body.text, rule.families),
            explicit=explicit,
            bare=rule.instructs and not explicit and not known.for_good.search(sentence.text),
            core=body.end - body.start,
        )
        found = join(found, made, sentence, clause)
    if over is not None and not found:
        return [_retraction(sentence, index, explicit=False)]
    return found


def _rule(clause: Clause, sentence: Sentence, known: Grammar, message: Message) -> Rule | None:
    """The first rule that fits a clause. A date makes a todo of what else were a fact."""
    limits = [r for r in known.rules if r.kind == MemoryType.CONSTRAINT and r.pattern.search(clause.text)]
    day = dates.last_day(clause.text, message.occurred_at) if dates.names_date(clause.text) else None
    done = known.past.search(clause.text) is not None
    if day is not None and not done and not (limits and not known.explicit.search(clause.text)):
        for rule in known.todos:
            if rule.pattern.search(clause.text) and not _personal_date(clause.text):
                return rule
    for rule in known.rules:
        said = rule.pattern.search(clause.text)
        if said and rule.kind != MemoryType.CONSTRAINT and known.told.search(clause.text[: said.start()]):
            continue
        if said:
            # A dislike may be of today's weather; what must be kept to is kept to today as well.
            passing = rule.kind != MemoryType.CONSTRAINT and (
                known.transient.search(clause.text) or known.vague.search(clause.text)
            )
            return None if passing else rule
    return None


def _rule_of_dropped_subject(
    body: Clause, clause: Clause, sentence: Sentence, known: Grammar, message: Message
) -> Rule | None:
    """Chinese says 我 once: '我姓沈，现在住在苏州'. A later clause without a subject is read as if it had one."""
    if not _DROPS.match(body.text) or not _HAN.search(body.text):
        return None
    before = [one for one in sentence.clauses if one.start < clause.start]
    own = any(_OWN_ZH.match(_strip(one, known).text) for one in before) if before else _OPENS.match(body.text)
    if not own:
        return None
    rule = _rule(replace(body, text=f"我{body.text}"), sentence, known, message)
    return rule if rule is not None and rule.kind != MemoryType.CONSTRAINT and rule.confidence >= 0.6 else None


def _personal_date(text: str) -> bool:
    """A birthday is a date without being a thing to do."""
    known = slot_of(MemoryType.FACT.value, text, frozenset({"birthday", "id_number", "phone"}))
    return known is not None or _YEARLY.search(text) is not None


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


def _remembered(sentence: Sentence, index: int, known: Grammar, message: Message) -> list[Found]:
    """What the user asks to keep although no rule knows it: the sentence without the asking."""
    marker = known.explicit.search(sentence.text)
    assert marker is not None  # noqa: S101 - the caller has seen it
    after = (sentence.start + marker.end(), sentence.end)
    before = (sentence.start, sentence.start + marker.start())
    for start, end in (after, before):
        start, end = _bare(sentence, start, end)
        said = sentence.text[start - sentence.start : end - sentence.start]
        if len(terms(said)) >= 2 and _particular(said):
            kind = MemoryType.TODO_HINT if dates.last_day(said, message.occurred_at) else MemoryType.FACT
            return [
                Found(
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


def _particular(said: str) -> bool:
    """Whether words speak of somebody or something: 'remember, small things matter' is advice, nothing to keep."""
    return bool(_HAN.search(said) or _PARTICULAR.search(said))


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


def _point_back(found: list[Found], sentence: Sentence, index: int, known: Grammar) -> list[Found]:
    """'Keep that in mind.': what the sentence before said was meant to be kept."""
    if not (known.points_back.search(sentence.text) and is_explicit(sentence, known)):
        return found
    return [
        replace(f, explicit=True, confidence=EXPLICIT_CONFIDENCE) if f.sentence == index - 1 and not f.retract else f
        for f in found
    ]


def _retraction(sentence: Sentence, index: int, *, explicit: bool) -> Found:
    return Found(
        kind=MemoryType.FACT.value,
        start=sentence.start,
        end=sentence.end,
        confidence=0.8,
        sentence=index,
        slot=slot_of("retraction", sentence.text, None),
        explicit=explicit,
        retract=True,
    )


def _intent(intents: list[Intent]) -> Intent:
    for wanted in (Intent.TASK_REQUEST, Intent.KNOWLEDGE_QA):
        if wanted in intents:
            return wanted
    return Intent.CHITCHAT
