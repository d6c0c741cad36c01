"""Slot and sensitivity of a text that has a type: the same for what was extracted and for what a user types in."""

from __future__ import annotations

import regex

from smartmem.memory.similarity import ordered_terms, stem
from smartmem.memory.topics import family, object_slot, slot_in, topics
from smartmem.text import for_patterns
from smartmem.types import MemoryType

# What says that something is liked or done, and not what.
_RATHER = regex.compile(r"(?:oh|well|and|but|so|,| )*\bi(?:'d| would) (?:much )?(?:rather|sooner)\b")
_LIKING = (
    "like love enjoy adore prefer hate dislike detest loathe despise can't cannot stand bear abide never always only "
    "rather fan fond keen crazy favourite favorite drink eat watch wear use listen cook best better find dreadful not "
    "don't no none really absolutely still actually even take ever half now one didn't couldn't work more less lot big "
    "huge used say"
)
_LIKING_ZH = regex.compile(
    r"吃不了|喝不了|吃不惯|一点|得了|不太?|没|从不|从来|再也|特别|非常|最近?|很|真的?|比较|更|超级?|现在|一直|向来|还是|喜欢|喜爱|偏爱|讨厌|受不了|受不住|感兴趣"
    r"|爱(?:吃|喝|看|听|玩|用|穿|跳)?|吃|喝|看|听|玩|用|穿|坐|推荐|点菜|千万|别|时候|多|宁愿|宁可|怕|迷上|习惯|对|比|都|只|已经|我|是|有|就"
)
_DOING = (
    "need must should promised remind reminder due deadline still got going gonna plan let forget don't friday monday "
    "tuesday wednesday thursday saturday sunday january february march april may june july august september october "
    "november december week month today tomorrow next make take go get send pick return pay buy call before moved same"
)
_DOING_ZH = regex.compile(
    r"今天|明天|后天|大后天|下?下?个?(?:周|星期|礼拜)[一二三四五六日天末]?|[\d一二三四五六七八九十]+[月号日点]半?|月底|上午|下午|晚上|早上"
    r"|中午|之前|以前|要|得|必须|需要|准备|打算|提醒|别忘了?|记得|去|之后|以后|到|改|交|不是|是"
)
_MONEY = regex.compile(
    r"[£$€¥]\s?\d|\d[\d.,]*\s?(?:k\b|euros?|dollars?|pounds?|yuan|usd|eur|gbp)|[\d一二三四五六七八九十百千万]+\s?(?:元|块|万)"
    r"|(?:月薪|年薪|工资|退休金|房租|存款|欠)\D{0,6}[\d一二三四五六七八九十]"
)
_OWN_MONEY = frozenset({"salary", "money", "rent", "budget"})
_PRIVATE = frozenset({"birthday", "phone", "email", "address", "allergy", "intolerance"})
# A constraint is about one of these or about nothing: "Sunday at my parents' house" is no fact about the family.
_LIMITS = (
    "allergy intolerance diet units answer_language correction answer_format contact_channel contact_hours budget "
    "address_form sleep sport health"
)
_NOT_LIKED = frozenset(map(stem, _LIKING.split()))
_NOT_DONE = frozenset(map(stem, _DOING.split()))
_FOR_CONSTRAINTS = frozenset(_LIMITS.split())


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
    if about & _OWN_MONEY and _MONEY.search(for_patterns(text)):
        return 2
    if "health" in about:
        return 1 if kind == MemoryType.CONSTRAINT else 2
    if about & _PRIVATE or slot_in("family", text) == "family:baby":
        return 1
    return 0


def _preference_slot(text: str) -> str | None:
    folded = for_patterns(text)
    if _RATHER.match(folded):
        return None  # the reason for a preference, or one without an object of its own
    words = [w for w in ordered_terms(_LIKING_ZH.sub(" ", folded)) if w not in _NOT_LIKED]
    return object_slot("pref", words[0]) if words else None


def _todo_slot(text: str) -> str | None:
    folded = _DOING_ZH.sub(" ", for_patterns(text))
    words = [w for w in ordered_terms(folded) if w not in _NOT_DONE and not w[0].isdigit()]
    return object_slot("todo", " ".join(words[:2])) if words else None
