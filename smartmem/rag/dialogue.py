"""How dialogues lie in documents, and who stands next to whom.

A dialogue comes in either of two shapes, and chunkers take both:

- one document a turn: metadata `speaker`, and where known `date`, `session_id`, `turn` (its place in the session);
- one document a session: a transcript of lines `Speaker: text` (a line without a speaker continues the turn above).

Metadata that this module reads: `session_id` (else the document's id) names the sequence, `turn` (else the chunk's
order) the place in it. Sequences of different users or conversations never mix.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import regex

from smartmem.rag.types import Chunk, Document
from smartmem.types import Scalar

# A name before a colon at the start of a line: up to four words and 40 characters, without the marks that end or join
# sentences ("Here it is, I think: …" and "今天天气很好，他说：…" are no names).
_SPEAKER = regex.compile(
    r"^[ \t]*(?P<name>[^\s:：][^\n:：,!?\"“”。，、！？；（(]{0,39}?)[ \t]*[:：][ \t]*(?!//)", regex.MULTILINE
)
_MAX_WORDS = 4
Place = tuple[Scalar, Scalar, Scalar, int]


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn in a text: [start, end) holds what was said, without the speaker's name and outer white space."""

    speaker: str
    start: int
    end: int


def turns(text: str) -> list[Turn]:
    """The turns of a transcript; a text without any `Speaker:` line is one turn of nobody."""
    marks = [m for m in _SPEAKER.finditer(text) if len(m["name"].split()) <= _MAX_WORDS]
    if not marks:
        spans = [("", 0, len(text))]
    else:
        ends = [m.start() for m in marks[1:]] + [len(text)]
        spans = [(m["name"], m.end(), end) for m, end in zip(marks, ends, strict=True)]
        if text[: marks[0].start()].strip():
            spans.insert(0, ("", 0, marks[0].start()))
    found = []
    for speaker, start, end in spans:
        while start < end and text[start].isspace():
            start += 1
        while end > start and text[end - 1].isspace():
            end -= 1
        if start < end:
            found.append(Turn(speaker, start, end))
    return found


def date_of(document: Document) -> str:
    """The date to index: metadata `date` as it stands (datasets write "8 May, 2023"), else the creation day."""
    date = document.metadata.get("date")
    if date is not None:
        return str(date)
    return document.created_at.date().isoformat() if document.created_at else ""


def labelled(text: str, *, speaker: str = "", date: str = "", title: str = "") -> str:
    """What embedders and BM25 see of a piece: `title`, `date`, then `speaker: text`."""
    line = f"{speaker}: {text}" if speaker else text
    return "\n".join([part for part in (title, date) if part] + [line])


class Sequences:
    """Chunks in the order of their dialogues, to look up neighbours. Holds references, not copies.

    Each part that looks at neighbours keeps its own: what one of them removes, the others still have to see, to know
    whose neighbours changed. Where several chunks claim one place (a turn cut into pieces), the last one added stands
    there.
    """

    def __init__(self) -> None:
        self._at: dict[Place, Chunk] = {}
        self._chunks: dict[str, Chunk] = {}

    def __len__(self) -> int:
        return len(self._chunks)

    def add(self, chunks: Iterable[Chunk]) -> None:
        for chunk in chunks:
            self.remove([chunk.id])
            self._chunks[chunk.id] = chunk
            self._at[_place(chunk)] = chunk

    def remove(self, ids: Sequence[str]) -> None:
        for id in ids:
            chunk = self._chunks.pop(id, None)
            if chunk is not None and self._at.get(_place(chunk)) is chunk:
                del self._at[_place(chunk)]

    def forget(self, ids: Sequence[str], before: int, after: int) -> list[Chunk]:
        """Remove by id; returns the chunks left whose window held a removed one: to be indexed again without it."""
        gone = [self._chunks[id] for id in ids if id in self._chunks]
        touched = self.touched(gone, before, after)
        self.remove(ids)
        return touched

    def of_documents(self, document_ids: Iterable[str]) -> list[Chunk]:
        """All chunks of these documents, by id."""
        wanted = set(document_ids)
        return sorted((c for c in self._chunks.values() if c.document_id in wanted), key=lambda chunk: chunk.id)

    def beside(self, chunk: Chunk, offset: int) -> Chunk | None:
        """The chunk `offset` places after (before, when negative) in the same sequence."""
        user, conversation, session, turn = _place(chunk)
        return self._at.get((user, conversation, session, turn + offset))

    def window(self, chunk: Chunk, before: int, after: int) -> str:
        """What to index of a chunk together with its neighbours: its own searchable text with the words of the turns
        before it in front and of those after it behind, inside the same session."""
        earlier = [self.beside(chunk, -offset) for offset in range(before, 0, -1)]
        later = [self.beside(chunk, offset) for offset in range(1, after + 1)]
        return "\n".join(
            [*(said(turn) for turn in earlier if turn), chunk.searchable, *(said(turn) for turn in later if turn)]
        )

    def touched(self, chunks: Sequence[Chunk], before: int, after: int) -> list[Chunk]:
        """The other chunks whose window holds one of `chunks`: to be indexed again when these are new."""
        own = {chunk.id for chunk in chunks}
        offsets = [*range(-after, 0), *range(1, before + 1)]
        found = (self.beside(chunk, offset) for chunk in chunks for offset in offsets)
        return list({turn.id: turn for turn in found if turn is not None and turn.id not in own}.values())


def said(chunk: Chunk) -> str:
    """`speaker: text` of a turn, without date and title: what a neighbour adds."""
    return labelled(chunk.text, speaker=str(chunk.metadata.get("speaker", "")))


def _place(chunk: Chunk) -> Place:
    metadata = chunk.metadata
    session = metadata.get("session_id", chunk.document_id)
    turn = metadata.get("turn", chunk.order)
    place = int(turn) if isinstance(turn, int | float) else chunk.order
    return metadata.get("user_id", ""), metadata.get("conversation_id", ""), session, place
