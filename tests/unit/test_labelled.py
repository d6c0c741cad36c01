"""Labelled messages: braces become spans, and what is no label is refused by its place."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smartmem.errors import BadRecord
from smartmem.evaluation.datasets.labelled import BLOCK, labelled_gold, read_lists
from smartmem.memory.extract.features import read
from smartmem.memory.extract.labelled import CODES, Label, read_labelled
from smartmem.memory.extract.training import tags


def write(folder: Path, text: str) -> Path:
    path = folder / "list.txt"
    path.write_text(text, "utf-8")
    return path


def test_a_label_is_a_span_of_the_message_without_its_braces(tmp_path: Path) -> None:
    line = "Hi 👋 {f:I'm a nurse}, so\\n{c:no calls before noon}. {r:Forget the dog}!\n\nWhat a day.\n"
    first, second = read_labelled(write(tmp_path, line))
    assert first.text == "Hi 👋 I'm a nurse, so\nno calls before noon. Forget the dog!"
    said = [(one.kind, first.text[one.start : one.end]) for one in first.labels]
    assert said == [("fact", "I'm a nurse"), ("constraint", "no calls before noon"), ("retraction", "Forget the dog")]
    assert first.facts == ["I'm a nurse", "no calls before noon"]
    assert (second.text, second.labels, second.place) == ("What a day.", (), f"{tmp_path / 'list.txt'}:3")


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("I {x:live} here", "'{x:live}' is no label"),
        ("I {f: } live", "'{f: }' is no label"),
        ("I {f:live here", "a brace without its pair"),
        ("{f:I {p:like} tea}", "labels do not nest"),
    ],
)
def test_what_is_no_label_is_named_with_file_and_line(tmp_path: Path, line: str, named: str) -> None:
    path = write(tmp_path, f"Hello.\n{line}\n")
    with pytest.raises(BadRecord) as error:
        list(read_labelled(path))
    assert f"{path}:2" in str(error.value)
    assert named in str(error.value)


def test_a_file_that_is_not_there_or_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    for name in ("none.txt", "latin.txt"):
        with pytest.raises(BadRecord, match=name):
            list(read_labelled(tmp_path / name))


def test_ten_lines_are_one_user_and_no_user_spans_two_files(tmp_path: Path) -> None:
    for name, lines in (("a.txt", BLOCK + 1), ("b.txt", 2)):
        (tmp_path / name).write_text("".join(f"{{f:I am {i}}}\n" for i in range(lines)), "utf-8")
    blocks = read_lists([tmp_path / "a.txt", tmp_path / "b.txt"])
    assert [len(block) for block in blocks] == [BLOCK, 1, 2]
    gold = labelled_gold(blocks)
    assert [turn.user_id for turn in gold.turns] == [1] * BLOCK + [2, 3, 3]
    assert [fact.content for fact in gold.facts[-2:]] == ["I am 0", "I am 1"]


@settings(deadline=None)  # the first text loads the grammars
@given(st.text(alphabet="aI你我 ,.。\n1'’é👋", max_size=60), st.data())
def test_tags_say_the_label_back(text: str, data: st.DataObject) -> None:
    """Whatever tokens a label covers, they begin with B, go on with I, and nothing else is tagged."""
    tokens, features = read(text, ())
    assert len(tokens) == len(features)
    assert all(not text[t.start : t.end].isspace() or text[t.start] in "\n\u3000" for t in tokens)
    if not tokens:
        return
    first = data.draw(st.integers(0, len(tokens) - 1))
    last = data.draw(st.integers(first, len(tokens) - 1))
    kind = data.draw(st.sampled_from(sorted(CODES.values())))
    made = tags(tokens, [Label(start=tokens[first].start, end=tokens[last].end, kind=kind)])
    code = next(code for code, known in CODES.items() if known == kind)
    assert made == ["O"] * first + [f"B-{code}"] + [f"I-{code}"] * (last - first) + ["O"] * (len(tokens) - last - 1)
