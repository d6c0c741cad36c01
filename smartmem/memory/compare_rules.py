"""The `rules` comparator: slots, words, denial, numbers and dates. No model, the same answer every time.

Two texts concern the same thing when they stand in one slot, or share enough words. Then, in this order: one affirms
what the other denies → conflict; a correction ("not two but three") or other values → update; nothing new → duplicate;
else another value for the same slot → update.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import regex

from smartmem.memory.compare import Comparison, Relation, comparator
from smartmem.memory.extract.signals import taken_back
from smartmem.memory.facts import Fact
from smartmem.memory.polarity import contradicted, liking, values
from smartmem.memory.similarity import containment, similarity, terms
from smartmem.memory.topics import slot_in, topics
from smartmem.text import for_patterns, normalise
from smartmem.types import MemoryType

_REPEATS = regex.compile(
    r"\b(?:still|as always|as ever|one more time|once more|like i said|as i said|as before|same as|again)\b"
    r"|再说一遍|再说一次|还是|依然|仍然|一直|说过|老样子|照旧|重复一遍"
)
_CORRECTS = regex.compile(
    r"\b(?:actually|correction|i meant|i was wrong|got .{0,30} wrong|not .{1,20} but|instead|no wait|wrong)\b"
    r"|不是.{1,12}(?:，|,)?.{0,8}(?:而是|是)|说错|记错|更正|纠正一下|应该是|改成|改到|其实|推迟|提前到|延期"
)
_OVER = regex.compile(
    r"\b(?:not|no longer|never was)\b.{0,20}\b(?:allergic|intolerant)|不再|不过敏|没有过敏|不是.{0,4}过敏"
)
_CHANGES = regex.compile(
    r"\b(?:now|these days|switched|swapped|changed|moved|instead|new|promoted|went up|went down|not .{1,20} any ?more"
    r"|since then|no longer|from \w+ to)\b|现在|改|换|调到|调去|升|搬|如今|不再|涨|降到|变成"
)
# An allergy stays the same allergy in whatever words it is said.
_SAME_WHATEVER = frozenset({"allergy", "intolerance", "birthday", "name"})
# What a request to forget calls the thing, which is no word of the thing itself.
_REMINDER = regex.compile(r"\b(?:reminders?|remind|to-?do|appointment|deadline)\b|提醒|备忘|待办")
_NAMES_OF_MEMORY = regex.compile(
    r"\b(?:forget|remove|delete|drop|scrap|scratch|cancel|throw out|erase|reminders?|notes?|thing|memory|entry|stuff"
    r"|about|all of it|any ?more|any ?longer|no longer|not|n't|please|gave up|given up|stopped|quit|said|told|wrote)\b"
    r"|忘掉?|忘了|忘记|删掉?|删除|去掉|取消|不用|提醒|记录|备忘|那条|这条|那件事|这件事|事情?|不再|不|别|了|吧|我|的|关于|记"
)

_ENDS = ".,;:!?。，；：！？、"

# Who asks to forget something means one of the memories; who says that something is over may mean nothing kept.
ASKED, MEANT = 2.5, 1.5


@comparator("rules")
@dataclass(frozen=True, slots=True)
class RulesComparator:
    """Thresholds are shares of common terms, 0..1: `related` to concern the same thing, `same` to add nothing."""

    related: float = 0.5
    same: float = 0.6

    def compare(self, fact: Fact, candidates: Sequence[Mapping[str, Any]]) -> Sequence[Comparison | Exception]:
        return [self._pair(fact, row) for row in candidates]

    def _pair(self, fact: Fact, row: Mapping[str, Any]) -> Comparison:
        if fact.action == "retract":
            return self._retraction(fact, row)
        relatedness, why = self._relatedness(fact, row)
        if relatedness == 0.0:
            return Comparison(relation=Relation.UNRELATED, score=0.0)
        new, old = for_patterns(fact.content), for_patterns(row["content"])
        if _is_clause_of(new, old):
            return Comparison(relation=Relation.DUPLICATE, score=relatedness, reason=f"{why}; its very words")
        against = _conflict(new, old, fact)
        if against:
            return Comparison(relation=Relation.CONFLICT, score=relatedness, reason=f"{why}; {against}")
        if _CORRECTS.search(new) and fact.content_hash != row["content_hash"]:
            return Comparison(relation=Relation.UPDATE, score=relatedness, reason=f"{why}; a correction")
        fresh = values(new) - values(old)
        if fresh and (values(old) or fact.memory_type == MemoryType.TODO_HINT):
            return Comparison(relation=Relation.UPDATE, score=relatedness, reason=f"{why}; now {_some(fresh)}")
        if self._says_nothing_new(fact, new, old):
            return Comparison(relation=Relation.DUPLICATE, score=relatedness, reason=f"{why}; nothing new")
        if why == "the same words" and similarity(new, old) < self.same:
            return Comparison(relation=Relation.UNRELATED, score=0.0)  # alike, but about something else
        return Comparison(relation=Relation.UPDATE, score=relatedness, reason=f"{why}; another value")

    def _relatedness(self, fact: Fact, row: Mapping[str, Any]) -> tuple[float, str]:
        if fact.slot and fact.slot == row["slot"]:
            return 1.0, "the same slot"
        if _family(fact.slot) != _family(row["slot"]) and fact.memory_type != row["memory_type"]:
            return 0.0, ""
        share = containment(fact.content, row["content"])
        common = terms(fact.content) & terms(row["content"])
        if _family(fact.slot) == _family(row["slot"]) == "todo" and common and share >= self.related / 2:
            return 0.5 + share / 2, "the same task by its words"
        changed = bool(_CHANGES.search(for_patterns(fact.content)))
        if changed and common and share >= self.related * 0.6 and fact.memory_type == row["memory_type"]:
            return 0.4 + share / 2, "the same thing, changed"
        if (
            share >= self.related
            and len(common) >= 2
            and similarity(fact.content, row["content"]) >= self.related / 1.5
        ):
            return share, "the same words"
        return 0.0, ""

    def _says_nothing_new(self, fact: Fact, new: str, old: str) -> bool:
        if _family(fact.slot) in _SAME_WHATEVER:
            return True
        share = containment(new, old)
        return share >= self.same or (bool(_REPEATS.search(new)) and share >= self.same / 2)

    def _retraction(self, fact: Fact, row: Mapping[str, Any]) -> Comparison:
        if fact.slot and fact.slot == row["slot"]:
            return Comparison(relation=Relation.RETRACTION, score=1.0, reason="takes back what stands in its slot")
        best = max((self._means(said, row) for said in taken_back(fact.content)), key=lambda c: c.score)
        if best.score < self.related / (ASKED if fact.is_explicit else MEANT):
            return Comparison(relation=Relation.UNRELATED, score=0.0)
        return best

    def _means(self, said: str, row: Mapping[str, Any]) -> Comparison:
        """How surely one sentence takes back this memory: by a slot that it speaks of, or by common words.

        The words are counted against the shorter of both, for requests to forget come with a story around them.
        """
        if row["slot"] and any(slot_in(name, said) == row["slot"] for name in topics(said)):
            return Comparison(relation=Relation.RETRACTION, score=0.95, reason="takes back what stands in its slot")
        meant, have = terms(_NAMES_OF_MEMORY.sub(" ", normalise(said))), terms(row["content"])
        common = meant & have
        if not common:
            return Comparison(relation=Relation.RETRACTION, score=0.0)
        score = len(common) / min(len(meant), len(have))
        if row["memory_type"] == MemoryType.TODO_HINT and _REMINDER.search(for_patterns(said)):
            score = min(0.94, score + 0.25)
        return Comparison(relation=Relation.RETRACTION, score=min(0.94, score), reason=f"takes back {_some(common)}")


def _is_clause_of(new: str, old: str) -> bool:
    """Whether these very words are a clause of the memory, or several."""
    before, said, after = old.partition(new.strip(_ENDS + " "))
    return bool(said) and before.rstrip()[-1:] in _ENDS and after.lstrip()[:1] in _ENDS


def _conflict(new: str, old: str, fact: Fact) -> str | None:
    """What one affirms and the other denies; values are no denial ("not two but three" is a correction)."""
    if _family(fact.slot) in _SAME_WHATEVER:  # "no nuts" and "nuts are off limits" deny nothing of each other
        return "it is over" if _OVER.search(new) and not _OVER.search(old) else None
    ours, theirs = liking(new), liking(old)
    if fact.memory_type == MemoryType.PREFERENCE and ours * theirs < 0:
        return "one likes what the other dislikes"
    against = contradicted(new, old)
    if against and fact.memory_type in (MemoryType.PREFERENCE, MemoryType.CONSTRAINT):
        return f"one affirms, the other denies {_some(against)}"
    return None


def same_whatever(fact: Fact, row: Mapping[str, Any]) -> bool:
    """Whether both stand in a slot in which all that is said is about one thing: an allergy, a birthday, a name."""
    return fact.slot is not None and fact.slot == row["slot"] and _family(fact.slot) in _SAME_WHATEVER


def _some(words: set[str] | frozenset[str]) -> str:
    return ", ".join(sorted(words)[:3])


def _family(slot: str | None) -> str:
    return (slot or "").partition(":")[0]
