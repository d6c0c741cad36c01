"""What of a message becomes one fact: joined, cut short, or given what `it` means. Sentences of our own."""

from __future__ import annotations

import pytest

from tests.unit.test_rules import extract

FACTS = [
    ("I'm learning Polish because my wife is from Gdansk.", ["I'm learning Polish because my wife is from Gdansk"]),
    ("I'm Priya, by the way, and I run a small hotel.", ["I'm Priya", "I run a small hotel"]),
    ("My eldest, Noor, plays the violin.", ["My eldest, Noor, plays the violin"]),
    ("I detest liver, so please leave it out.", ["I detest liver, so please leave it out"]),
    ("I've got a kitten! Her name is Pixel.", ["I've got a kitten! Her name is Pixel"]),
    ("Darts is my new thing. I love it now.", ["Darts is my new thing. I love it now"]),
    ("I love it now.", []),
    ("I'm coeliac, so what bread can I buy?", ["I'm coeliac"]),
    ("Is bread bad for coeliacs?", []),
    ("Could you always put sources at the end?", ["Could you always put sources at the end"]),
    ("Write a toast for me. Don't use rhymes.", []),
    ("Write a toast for me. Never use rhymes when you write to me.", ["Never use rhymes when you write to me"]),
    ("Answer this one: 'Hi, I live in Poole and I hate fish.' Be nice.", []),
    ("Scratch that, the interview is on Thursday now.", ["the interview is on Thursday now"]),
    ("im a plumber and i dont eat meat", ["im a plumber", "i dont eat meat"]),
    ("my roommate is allergic to nuts", []),
    ("My doctor says I have high cholesterol.", ["My doctor says I have high cholesterol"]),
    ("我姓罗，现在住在昆明。", ["我姓罗", "现在住在昆明"]),
    ("我乳糖不耐受，早餐别放牛奶。", ["我乳糖不耐受，早餐别放牛奶"]),
    ("医生说我血压偏高。", ["医生说我血压偏高"]),
    ("不是我养狗，是隔壁养狗。", []),
    ("交水费的事你就不用给我记了", ["交水费的事你就不用给我记了"]),
    ("晚上十点以后别提醒我任何事。", ["晚上十点以后别提醒我任何事"]),
    ("别忘了我不吃牛肉。", ["我不吃牛肉"]),
    ("12/31 之前我得把旧电脑还回去", ["12/31 之前我得把旧电脑还回去"]),
]


@pytest.mark.parametrize(("text", "facts"), FACTS, ids=lambda value: str(value)[:40])
def test_what_becomes_one_fact(text: str, facts: list[str]) -> None:
    assert [fact.content for fact in extract(text).facts] == facts
