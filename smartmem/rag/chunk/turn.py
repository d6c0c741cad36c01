"""One chunk a dialogue turn."""

from __future__ import annotations

from smartmem.rag.chunk.pieces import trimmed
from smartmem.rag.dialogue import Turn, date_of, labelled, turns
from smartmem.rag.registry import register
from smartmem.rag.types import Chunk, Document


@register("chunker", "turn")
class TurnChunker:
    """Indexes `speaker: text` with the session's date (see rag/dialogue.py for the two shapes of a dialogue).

    A document that is one turn (metadata `speaker`) gives one chunk whose id is the document's id, so that gold
    labels by turn id need no mapping. A transcript gives `document#0`, `document#1`, … with metadata `speaker`,
    `session_id` and `turn`. `speaker`, `date`: whether each is indexed with the words.
    """

    def __init__(self, speaker: bool = True, date: bool = True) -> None:
        self._speaker, self._date = speaker, date

    def chunk(self, document: Document) -> list[Chunk]:
        name = document.metadata.get("speaker")
        if name is not None:
            start, end = trimmed(document.text, (0, len(document.text)))
            return [self._make(document, Turn(str(name), start, end), 0, document.id)] if start < end else []
        return [
            self._make(document, turn, order, f"{document.id}#{order}")
            for order, turn in enumerate(turns(document.text))
        ]

    def _make(self, document: Document, turn: Turn, order: int, id: str) -> Chunk:
        text = document.text[turn.start : turn.end]
        metadata = dict(document.metadata)
        if id != document.id:
            metadata = {"session_id": document.id, **metadata, "turn": order}
            if turn.speaker:
                metadata["speaker"] = turn.speaker
        return Chunk(
            id=id,
            document_id=document.id,
            start=turn.start,
            end=turn.end,
            text=text,
            order=order,
            metadata=metadata,
            index_text=labelled(
                text,
                speaker=turn.speaker if self._speaker else "",
                date=date_of(document) if self._date else "",
                title=document.title,
            ),
        )
