"""What a text is about, in words of our own: the families of slots, for facts and for questions, zh and en alike.

A slot is `family` or `family:object` ("city", "allergy:peanut", "pref:coffee"). At any time a user has at most one
valid memory in a slot, so slots are how the `rules` comparator sees that two texts speak of the same thing, and how
recall finds a memory that answers a question in other words, or in the other language. The words are in topics.toml.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

import regex

from smartmem.memory.similarity import ordered_terms
from smartmem.text import for_patterns

_ALLERGEN = regex.compile(
    r"allerg\w+ to (?:the |most |all |both )?([\w' -]{3,30}?)(?=[,.;!]|$| and | so | since | which | because | - )"
    r"|\b([\w-]*nuts?|shellfish|shrimps?|prawns?|eggs?|milk|soy|penicillin|pollen|cats?|dust|latex|wasps?|bees?"
    r"|strawberr\w+|mango\w*|kiwi\w*|sesame|ibuprofen|aspirin)\b.{0,40}\b(?:allerg\w+|kill me|off limits)"
    r"|\b([\w-]+) allergy\b|\ballerg\w+.{0,30}\b((?:tree )?nuts?|penicillin|pollen)\b"
    r"|对\s?([\p{Han}\w]{1,8}?)(?:严重|也|会|都)?过敏|([\p{Han}]{1,4})过敏"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Family:
    name: str
    pattern: regex.Pattern[str]
    objects: regex.Pattern[str] | None


def _read() -> tuple[tuple[_Family, ...], dict[str, str]]:
    file = resources.files("smartmem.memory").joinpath("topics.toml")
    table = tomllib.loads(file.read_text("utf-8"))
    return tuple(_family(entry) for entry in table["family"]), table["same"]


def _family(entry: dict[str, Any]) -> _Family:
    ways = [*entry.get("patterns", ()), *entry.get("zh", ())]
    if entry.get("words"):
        ways.append(rf"\b(?:{'|'.join(entry['words'])})\b")
    objects = []
    if entry.get("objects"):
        objects.append(rf"\b(?:{'|'.join(entry['objects'])})")
    objects += entry.get("objects_zh", ())
    return _Family(
        name=entry["name"],
        pattern=regex.compile("|".join(ways)),
        objects=regex.compile("|".join(objects)) if objects else None,
    )


_FAMILIES, _SAME = _read()
_BY_NAME = {family.name: family for family in _FAMILIES}


@lru_cache(maxsize=4096)
def topics(text: str) -> frozenset[str]:
    """All slot families that a text speaks of; for a question, those that it asks about."""
    folded = for_patterns(text)
    return frozenset(family.name for family in _FAMILIES if family.pattern.search(folded))


def family(text: str, among: frozenset[str] | None = None) -> str | None:
    """The first slot family that fits (among some), None when none does."""
    folded = for_patterns(text)
    for one in _FAMILIES:
        if (among is None or one.name in among) and one.pattern.search(folded):
            return one.name
    return None


def slot_in(name: str, text: str) -> str:
    """The slot of family `name` that `text` speaks of: with its object where the family holds several."""
    folded = for_patterns(text)
    if name == "allergy":
        return f"allergy:{_allergen(folded)}"
    objects = _BY_NAME[name].objects
    found = objects.search(folded) if objects else None
    if found is None:
        return name
    word = found.group()
    return f"{name}:{'run' if '跑' in word else _SAME.get(word, word)}"


def object_slot(prefix: str, words: str) -> str | None:
    """A slot named by the first two of its object's words: `pref:coffee`, `todo:deposit form`; None without any."""
    key = " ".join(words.split()[:2])
    return f"{prefix}:{key[:100]}" if key else None


def _allergen(folded: str) -> str:
    found = _ALLERGEN.search(folded)
    if found is None:
        return "unknown"
    word = next(group for group in found.groups() if group).strip()
    head = ordered_terms(word)
    key = head[-1] if head else word
    is_tree_nut = key.endswith("nut") and key not in ("peanut", "coconut", "doughnut")
    return _SAME.get(key, "nut" if is_tree_nut else key)
