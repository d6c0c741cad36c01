"""What a sentence does before it says anything: asks, instructs, asks to remember, takes back, speaks of its author."""

from __future__ import annotations

import regex

from smartmem.memory.extract import dates
from smartmem.memory.extract.grammar import Grammar, grammar
from smartmem.memory.extract.segment import Sentence, mask, sentences
from smartmem.memory.similarity import terms
from smartmem.text import language
from smartmem.types import MemoryType

_SELF = regex.compile(
    r"\b(?:i|i['’](?:m|ve|d|ll)|my|mine|me|we|we['’](?:re|ve)|our|us|myself|call me)\b|我|咱|俺|本人|自己",
    regex.IGNORECASE,
)


# An instruction in the form of a question.
_ASKS_FOR_GOOD = regex.compile(
    r"(?:could|can|would|will) you (?:please )?(?:always|never|from now on|in (?:the )?future|stop)\b", regex.IGNORECASE
)


def speaks_of_self(text: str) -> bool:
    """Whether a message may hold something about its author at all: it speaks of her, asks to remember, or instructs.

    False is certain enough to spare a model the reading; True promises nothing. Chinese drops the pronoun, so there
    only questions, tasks and exclamations of a word or two are certain.
    """
    masked = mask(text)
    if _SELF.search(masked):
        return True
    return any(_may_tell(sentence, grammar(language(sentence.text))) for sentence in sentences(masked))


def _may_tell(sentence: Sentence, known: Grammar) -> bool:
    if known.explicit.search(sentence.text) or known.forget.search(sentence.text) or is_standing(sentence, known):
        return True
    if is_question(sentence, known):
        return False
    if dates.names_date(sentence.text):
        return True  # "The exam is on 11 December"
    plain = language(sentence.text) == "zh" and not known.request.search(sentence.text)
    return plain and len(terms(sentence.text)) > 3


def taken_back(text: str) -> list[str]:
    """The sentences of a message that take something back; the whole text when none does."""
    meant = []
    for sentence in sentences(mask(text)):
        known = grammar(language(sentence.text))
        said = [sentence.text, *(clause.text for clause in sentence.clauses)]
        if any(known.forget.search(part) or known.no_longer.search(part) for part in said):
            meant.append(text[sentence.start : sentence.end])
    return meant or [text]


def is_question(sentence: Sentence, known: Grammar) -> bool:
    """English asks from its first word on, Chinese at the end: only the last clause is looked at there."""
    if _ASKS_FOR_GOOD.match(sentence.text):
        return False
    if sentence.is_question or not sentence.clauses:
        return sentence.is_question
    asked = sentence.text if sentence.text.isascii() else sentence.clauses[-1].text
    return bool(known.question.search(asked))


def is_explicit(sentence: Sentence, known: Grammar) -> bool:
    return bool(known.explicit.search(sentence.text)) and not known.not_explicit.search(sentence.text)


def is_standing(sentence: Sentence, known: Grammar) -> bool:
    """Whether a request is meant for good: 'always give me…', 以后都…"""
    for_good = known.for_good.search(sentence.text)
    return any(
        rule.kind == MemoryType.CONSTRAINT and (for_good or not rule.instructs) and rule.pattern.search(clause.text)
        for rule in known.rules
        for clause in sentence.clauses
    )
