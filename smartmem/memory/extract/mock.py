"""One conservative fact a message, so that the state machine runs with no rules and no model."""

from __future__ import annotations

from smartmem.memory.extract.base import Extraction, extractor
from smartmem.memory.facts import Candidate, Message


@extractor("mock")
class MockExtractor:
    """Keeps what was said, as a `fact`, under the speaker's name where there is one."""

    concurrency = 1

    def extract(self, message: Message) -> Extraction:
        text = message.source_text
        if not text or text.isspace():
            return Extraction(reason="blank")
        said = f"{message.speaker}: {text}" if message.speaker else text
        return Extraction(facts=(Candidate(memory_type="fact", content=said, span=(0, len(text))),))
