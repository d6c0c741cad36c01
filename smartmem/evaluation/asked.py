"""Ask a memory store the questions of a dataset: does what it would inject hold the evidence?

frame = ask_memories(dataset, bench.recall, bench.messages)   # one row a question
rates(frame, "hit", by="language")                  # {"en": {"mean", "lo", "hi", "queries"}, …}, clustered by user
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from smartmem.errors import Unmeasurable, needs
from smartmem.evaluation.datasets import Dataset
from smartmem.evaluation.datasets.records import turn_key
from smartmem.evaluation.stats import Resampler

if TYPE_CHECKING:
    import pandas as pd

    from smartmem.chat.history import Message
    from smartmem.memory.recall import Recalled


def ask_memories(
    dataset: Dataset, recall: Callable[[int, str], Recalled], messages: Callable[[int], Iterable[Message]]
) -> pd.DataFrame:
    """One row a question: query_id, user_id, language, category, no_answer, injected, hit, rank, top_score, tokens.

    `messages` gives the stored messages of a user; their `client_message_id` is the dataset's turn id, as importers
    write it. `hit` is 1.0 when a memory that passed the gates comes from a turn of the gold, else 0.0; `rank` is that
    memory's place (0: none). A question without an answer has `hit` NaN: what counts there is `injected`, the number
    of memories that passed.
    """
    with needs("eval"):
        import pandas
    users = {talk.id: talk.user_id for talk in dataset.conversations}
    turn_of = {
        message.id: turn_key(talk, message.client_message_id)
        for talk, user in users.items()
        for message in messages(user)
        if message.client_message_id
    }
    rows = []
    for query in dataset.queries:
        found = recall(users[query.conversation_id], query.text)
        turns = [turn_of.get(item.source.message_id) if item.source else None for item in found.items]
        rank = next((place for place, turn in enumerate(turns, start=1) if turn in query.relevant), 0)
        rows.append(
            {
                "query_id": query.id,
                "user_id": users[query.conversation_id],
                "language": query.language,
                "category": query.category,
                "no_answer": query.no_answer,
                "injected": len(found.items),
                "hit": float("nan") if query.no_answer else float(rank > 0),
                "rank": rank,
                "top_score": max((item.score for item in found.items), default=0.0),
                "tokens": found.tokens,
            }
        )
    return pandas.DataFrame(rows)


def rates(
    frame: pd.DataFrame, column: str, by: str | None = None, *, cluster: str = "user_id"
) -> dict[str, dict[str, Any]]:
    """Mean of `column` with its BCa interval, `cluster`s resampled as a whole; `all`, or one entry a value of `by` in
    the order of the frame.

    Rows without a value are left out. Raises `Unmeasurable` when none has one.
    """
    known = frame[frame[column].notna()]
    if not len(known):
        raise Unmeasurable(f"no row has a value in {column!r}")
    groups = [("all", known)] if by is None else [(str(name), part) for name, part in known.groupby(by, sort=False)]
    out = {}
    for name, part in groups:
        values = part[column].to_numpy(dtype=np.float64)
        made = Resampler([str(one) for one in part[cluster]]).interval(values)
        out[name] = {"mean": made.mean, "lo": made.lo, "hi": made.hi, "queries": made.queries}
    return out
