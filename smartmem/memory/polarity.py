"""Which words of a text are affirmed and which denied, whether it likes or dislikes, and which values it names."""

from __future__ import annotations

from functools import lru_cache

import regex

from smartmem.memory.similarity import terms
from smartmem.text import for_patterns

# "no meat and no fish", "leave out meat and fish": `and` ends a clause only before a new subject or instruction.
_CLAUSE = regex.compile(
    r"[.;:!?，。；：！？—()（）]|,(?! (?:or|and|nor)\b)|\b(?:but|so|because|since|though|while)\b"
    r"|\b(?:and|or)\b(?= (?:i|i'm|it|it's|we|my|please|always|never|then|now|just)\b)"
    r"|但是?|可是|不过|所以|因为|而且|然后|而是"
)
# What turns the rest of a clause into its opposite.
_DENIES = regex.compile(
    r"\b(?:not|never|no|none|nobody|nothing|without|neither|nor|cannot|stop(?:ped)?|quit|avoid|skip|except|instead of"
    r"|rather than|leave out|off limits|off|gave up|given up|hate|dislike|useless|can't stand|off-limits)\b|n't\b"
    r"|不是|不再|再也不|不要|不能|不想|不用|不|没有|没|别|勿|戒了?|讨厌|受不了|避免|除了|禁止|拒绝"
)
# What affirms again inside a clause: "never feet, always metric" without the comma.
_AFFIRMS = regex.compile(r"\b(?:always|only|just|but|again)\b|一律|只|改|而是")
_LIKES = regex.compile(
    r"\b(?:like|likes|love|loves|enjoy|adore|prefer|favou?rite|fond|keen|fan|into|best)\b|喜欢|爱上?|最爱|偏爱|迷上|更好"
)
_DISLIKES = regex.compile(
    r"\b(?:hate|dislike|detest|loathe|dreadful|awful|horrible|terrible|disgusting|boring|can't (?:stand|bear)"
    r"|cannot stand|never|useless|lost on me|not for me|sick of|fed up)\b"
    r"|\b(?:don't|do not|didn't|not)\b.{0,16}\b(?:like|love|enjoy|fan|into|keen|fond)\b"
    r"|讨厌|受不了|不(?:太|怎么|大|是很)?(?:喜欢|爱)|吃不了|喝不了|吃不惯|不吃|不喝|不想|难吃|难喝|烦|没兴趣|不感兴趣|恶心|害怕|怕"
)
_NUMBER = regex.compile(r"\d+(?:[.,:]\d+)*|[零〇一二两三四五六七八九十百千万]+(?=[点号日月年岁个只次块元天周人])")
_UP_TO_NINETEEN = (
    "zero", "one first", "two second twice", "three third", "four fourth", "five fifth", "six sixth", "seven seventh",
    "eight eighth", "nine ninth", "ten tenth", "eleven eleventh", "twelve twelfth", "thirteen thirteenth",
    "fourteen fourteenth", "fifteen fifteenth", "sixteen sixteenth", "seventeen seventeenth", "eighteen eighteenth",
    "nineteen nineteenth",
)  # fmt: skip
_TENS = (
    "twenty twentieth", "thirty thirtieth", "forty fortieth", "fifty fiftieth", "sixty sixtieth", "seventy seventieth",
    "eighty eightieth", "ninety ninetieth",
)  # fmt: skip
_WORDS = {word: value for value, names in enumerate(_UP_TO_NINETEEN) for word in names.split()}
_WORDS |= {word: 20 + 10 * i for i, names in enumerate(_TENS) for word in names.split()}
_ONES = "|".join(word for word, value in _WORDS.items() if 0 < value < 10)
_NUMBER_WORD = regex.compile(
    rf"\b(?P<tens>{'|'.join(names.split()[0] for names in _TENS)})[- ](?P<ones>{_ONES})\b"
    rf"|\b(?P<alone>{'|'.join(_WORDS)})\b"
)
_DAYS = regex.compile(
    r"\b(?:mon|tues?|wednes|thurs?|fri|satur|sun)days?\b|\b(?:january|february|march|april|may|june|july|august|september"
    r"|october|november|december)\b|(?:周|星期|礼拜)[一二三四五六日天]"
)
_HAN_DIGITS = dict(zip("零〇一二两三四五六七八九", "001223456789", strict=True))


@lru_cache(maxsize=4096)
def polarities(text: str) -> dict[str, bool]:
    """Content terms of a text with whether it affirms them; the last mention counts. Numbers are left out."""
    found: dict[str, bool] = {}
    for clause in _CLAUSE.split(for_patterns(text)):
        for piece, affirmed in _pieces(clause or ""):
            for term in terms(piece):
                if not _NUMBER.search(term) and term not in _WORDS:
                    found[term] = affirmed
    return found


def contradicted(new: str, old: str) -> set[str]:
    """The terms that one text affirms and the other denies."""
    ours, theirs = polarities(new), polarities(old)
    return {term for term in ours.keys() & theirs.keys() if ours[term] is not theirs[term]}


def liking(text: str) -> int:
    """1 if a text likes, -1 if it dislikes, 0 if it says neither; the first word that says so counts."""
    folded = for_patterns(text)
    bad, good = _DISLIKES.search(folded), _LIKES.search(folded)
    if bad and (not good or bad.start() <= good.start()):
        return -1
    return 1 if good else 0


@lru_cache(maxsize=4096)
def values(text: str) -> frozenset[str]:
    """Numbers (as digits, also from words), weekdays and months that a text names."""
    folded = for_patterns(text)
    found = {_digits(match.group()) for match in _NUMBER.finditer(folded)}
    found |= {_number(match) for match in _NUMBER_WORD.finditer(folded)}
    found |= {match.group().removesuffix("s") for match in _DAYS.finditer(folded)}
    return frozenset(found)


def _pieces(clause: str) -> list[tuple[str, bool]]:
    """Cut a clause where its polarity changes."""
    marks = sorted(
        [(m.start(), m.end(), False) for m in _DENIES.finditer(clause)]
        + [(m.start(), m.end(), True) for m in _AFFIRMS.finditer(clause)]
    )
    pieces: list[tuple[str, bool]] = []
    affirmed, start = True, 0
    for begin, end, kind in marks:
        pieces.append((clause[start:begin], affirmed))
        affirmed, start = kind, end
    pieces.append((clause[start:], affirmed))
    return pieces


def _number(words: regex.Match[str]) -> str:
    """`thirteenth` → `13`, `seventy-two` → `72`."""
    named = [word for word in words.group("tens", "ones", "alone") if word]
    return str(sum(_WORDS[word] for word in named))


def _digits(number: str) -> str:
    """`三` → `3`, `十二` → `12`, `二十` → `20`; larger Chinese numbers stay as they are."""
    if number[0].isdigit():
        return number
    if "百" in number or "千" in number or "万" in number:
        return number
    tens, ten, ones = number.rpartition("十")
    if not ten:
        return "".join(_HAN_DIGITS[c] for c in number)
    return (_HAN_DIGITS.get(tens, "1") if tens else "1") + (_HAN_DIGITS.get(ones, "0") if ones else "0")
