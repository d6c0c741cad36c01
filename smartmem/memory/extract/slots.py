"""Slot and sensitivity of a text that has a type: the same for what was extracted and for what a user types in."""

from __future__ import annotations

import regex

from smartmem.memory.similarity import ordered_terms
from smartmem.memory.topics import family, object_slot, slot_in, topics
from smartmem.text import normalise
from smartmem.types import MemoryType

# What says that something is liked or done, and not what.
_PREFERENCE_WORDS = frozenset(
    "like love enjoy ador prefer hate dislik detest loath despis can't cannot stand bear abid never alway only rather fan "
    "fond keen crazy favourit favorit drink eat watch wear us use listen cook best better find dreadful not don't no "
    "realli absolut still actual even tak take ever half now one didn't couldn't work more less lot big huge".split()  # noqa: SIM905
)
_PREFERENCE_ZH = regex.compile(
    r"不太?|没|从不|从来|再也|特别|非常|最近?|很|真的?|比较|更|超级?|现在|一直|向来|还是|喜欢|喜爱|偏爱|爱(?:吃|喝|看|听|玩|用|穿)?|讨厌|受不了|受不住"
    r"|感兴趣|吃|喝|看|听|玩|用|穿|坐|推荐|点菜|千万|别|时候|多|宁愿|宁可|怕|迷上|爱上|习惯|对|比|都|只|已经|我|是|有|就"
)
_TODO_WORDS = frozenset(
    "need must should promis remind due deadlin still got going gonna plan let forget don't by befor friday monday tuesday "
    "wednesday thursday saturday sunday january february march april may june july august september october november "
    "decemb january's week month today tomorrow next hav mak tak go get send pick return pay buy call".split()  # noqa: SIM905
)
_TODO_ZH = regex.compile(
    r"今天|明天|后天|大后天|下?下?个?(?:周|星期|礼拜)[一二三四五六日天末]?|[\d一二三四五六七八九十]+[月号日点]半?|月底|上午|下午|晚上|早上|中午|之前|以前"
    r"|要|得|必须|需要|准备|打算|提醒|别忘了?|记得|去|之后|以后|到"
)
_MONEY = regex.compile(
    r"[£$€¥]\s?\d|\d[\d.,]*\s?(?:k\b|euros?|dollars?|pounds?|yuan|usd|eur|gbp)|(?:月薪|年薪|工资|退休金|房租|存款|欠)\D{0,6}[\d一二三四五六七八九十]"
    r"|[\d一二三四五六七八九十百千万]+\s?(?:元|块|万|千块)"
)
_OWN_MONEY = frozenset({"salary", "money", "rent", "budget"})
_PRIVATE = frozenset({"birthday", "phone", "email", "address", "allergy", "intolerance"})
# Slots of a constraint that a word like "Sunday" or "house" must not name.
_FOR_CONSTRAINTS = frozenset(
    "allergy intolerance diet units answer_language correction answer_format contact_channel contact_hours budget "
    "address_form sleep sport health job".split()  # noqa: SIM905
)


def slot_of(kind: str, text: str, families: frozenset[str] | None) -> str | None:
    """The slot of a text of this type, None when nothing names one. `families` narrows the choice."""
    if kind == MemoryType.PREFERENCE:
        return _preference_slot(text)
    if kind == MemoryType.TODO_HINT:
        return _todo_slot(text)
    among = families
    if among is None and kind == MemoryType.CONSTRAINT:
        among = _FOR_CONSTRAINTS
    name = family(text, among)
    return slot_in(name, text) if name else None


def sensitivity(kind: str, text: str) -> int:
    """0, 1 or 2 by the data card's table; a limit with a medical reason is 1, so that it stays usable."""
    about = topics(text)
    if "id_number" in about and any(c.isdigit() for c in text):
        return 2
    if about & _OWN_MONEY and _MONEY.search(normalise(text)):
        return 2
    if "health" in about:
        return 1 if kind == MemoryType.CONSTRAINT else 2
    if about & _PRIVATE or slot_in("family", text) == "family:baby":
        return 1
    return 0


def _preference_slot(text: str) -> str | None:
    folded = normalise(text)
    words = [w for w in ordered_terms(_PREFERENCE_ZH.sub(" ", folded)) if w not in _PREFERENCE_WORDS]
    return object_slot("pref", " ".join(words[:1])) if words else None


def _todo_slot(text: str) -> str | None:
    folded = _TODO_ZH.sub(" ", normalise(text))
    words = [w for w in ordered_terms(folded) if w not in _TODO_WORDS and not w[0].isdigit()]
    return object_slot("todo", " ".join(words[:2])) if words else None
