"""What a cosine is worth: every embedder has its own level for texts that have nothing to do with each other.

bge-small gives strangers .37 on average, the mock embedder 0. Recall's score has one threshold for all of them, so a
cosine is counted from the level that nine in ten pairs of strangers reach:

    relevance = max(0, (cosine - baseline) / (1 - baseline))

On the odd half of smartmem-tiny (English, bge-small, hybrid) that injects 8 memories that are no constraints into the
7 questions without an answer, instead of 21, and loses no answer; higher levels begin to lose some.
"""

from __future__ import annotations

import numpy as np

from smartmem.rag.protocols import Embedder

# No question is answered by any of the statements.
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
_SHARE = 10  # percentile of strangers' cosines that counts as no relevance at all
_known: dict[tuple[str, str], float] = {}


def baseline(embedder: Embedder, language: str) -> float:
    """The cosine from which `embedder` means something in this language, 0..0.95; worked out once a process."""
    key = (embedder.fingerprint, language)
    if key not in _known:
        words = language if language in _QUESTIONS else "en"
        questions = embedder.embed_queries(list(_QUESTIONS[words]))
        statements = embedder.embed_documents(list(_STATEMENTS[words]))
        level = float(np.percentile(questions @ statements.T, _SHARE))
        _known[key] = min(0.95, max(0.0, level))
    return _known[key]


def relevance(cosine: float, level: float) -> float:
    """A cosine as 0..1, 0 for strangers."""
    return max(0.0, min(1.0, (cosine - level) / (1 - level)))
