"""What a cosine is worth: every embedder has its own level for texts that have nothing to do with each other, and its
own for a question and what answers it.

bge-small gives strangers .37 on average and answers .68, the mock embedder 0 to both. Recall's score has one threshold
for all of them, so a cosine is counted between two levels of the embedder's own:

    relevance = (cosine - strangers) / (answers - strangers), within 0..1

`strangers` is what nine in ten pairs of strangers reach, `answers` the median of questions with their answers; where a
model does not tell the two apart, 1 takes its place. On the odd half of smartmem-tiny (English, bge-small, rules) 4.3
memories are injected on average and hold the evidence for 76 % of the questions; counted from 0 to 1, 4.9 and 72 %,
from `strangers` to 1, 3.5 and 69 %, for then an answer's own cosine may stay below the threshold.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from smartmem.rag.protocols import Embedder

# No question of _QUESTIONS is answered by any of the statements, and each of _ASKED by the one in its place.
_STATEMENTS = {
    "en": (
        "I keep bees in the garden behind the house.",
        "My flight to Oslo leaves on Tuesday.",
        "I cannot eat anything with gluten.",
        "My sister plays the violin in an orchestra.",
        "Please answer in short sentences.",
        "I love films from the seventies.",
        "I work as a plumber in Cork.",
        "My blood pressure is too high.",
    ),
    "zh": (
        "我在后院养蜂。",
        "我周二飞奥斯陆。",
        "我不能吃含麸质的东西。",
        "我姐姐在乐团拉小提琴。",
        "请用短句回答。",
        "我喜欢七十年代的电影。",
        "我在青岛做水管工。",
        "我血压有点高。",
    ),
}
_QUESTIONS = {
    "en": (
        "Which programming language did we talk about?",
        "Who won the chess game?",
        "How old is the bridge?",
        "When did the museum open?",
        "Where can I park the boat?",
    ),
    "zh": ("我们聊过哪种编程语言？", "那盘棋谁赢了？", "那座桥有多少年了？", "博物馆几点开门？", "船可以停在哪里？"),
}
_ASKED = {
    "en": (
        "What do I keep in the garden?",
        "When do I fly to Oslo?",
        "Is there anything that I must not eat?",
        "Which instrument does my sister play?",
        "How long should your answers be?",
        "What kind of films do I like?",
        "What is my job?",
        "What did my doctor say about my health?",
    ),
    "zh": (
        "我在院子里养什么？",
        "我什么时候飞奥斯陆？",
        "有什么是我不能吃的？",
        "我姐姐演奏什么乐器？",
        "你的回答该有多长？",
        "我喜欢哪种电影？",
        "我做什么工作？",
        "医生说我身体怎么样？",
    ),
}
_SHARE = 10  # percentile of strangers' cosines that counts as no relevance at all
_APART = 90  # and the one that answers must lie above, or the model does not tell them from strangers
_known: dict[tuple[str, str], Scale] = {}


@dataclass(frozen=True, slots=True)
class Scale:
    """The cosines that count as no relevance (at most 0.95) and as full relevance (at most 1)."""

    strangers: float
    answers: float = 1.0


def scale(embedder: Embedder, language: str) -> Scale:
    """Between which cosines `embedder` means something in this language; worked out once a process."""
    key = (embedder.fingerprint, language)
    if key not in _known:
        words = language if language in _QUESTIONS else "en"
        asked = len(_ASKED[words])
        vectors = embedder.embed_queries([*_ASKED[words], *_QUESTIONS[words]])
        statements = embedder.embed_documents(list(_STATEMENTS[words]))
        cosines = vectors @ statements.T
        strange = cosines[asked:]
        answers = float(np.median(np.diag(cosines[:asked])))
        apart = answers > float(np.percentile(strange, _APART))
        low = min(0.95, max(0.0, float(np.percentile(strange, _SHARE))))
        _known[key] = Scale(low, min(1.0, answers) if apart else 1.0)
    return _known[key]


def relevance(cosine: float, between: Scale) -> float:
    """A cosine as 0..1: 0 for strangers, 1 from what answers a question."""
    return max(0.0, min(1.0, (cosine - between.strangers) / (between.answers - between.strangers)))
