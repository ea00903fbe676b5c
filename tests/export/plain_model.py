"""The model in plain NumPy, from nothing but an exported folder: docs/export.md as code."""
# SPDX-License-Identifier: Apache-2.0

import json
import pathlib
from typing import NamedTuple

import numpy as np

INDEX = "model.safetensors.index.json"
DTYPES = {"F32": np.dtype("<f4"), "BF16": np.dtype("<u2"), "I8": np.dtype("i1")}


class Model(NamedTuple):
    """What a folder holds."""

    config: dict
    arrays: dict[str, np.ndarray]


def read(folder: pathlib.Path) -> Model:
    """Reads `config.json` and all arrays, as float32."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert (config["format"], config["format_version"]) == ("gshard-mt", 1)
    files = {"model.safetensors"}
    if (folder / INDEX).exists():
        files = set(json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"].values())
    arrays = {}
    for name in sorted(files):
        arrays |= read_file(folder / name)
    return Model(config, {name: scaled(name, arrays) for name in arrays})


def scaled(name: str, arrays: dict[str, np.ndarray]) -> np.ndarray:
    """Returns an array as float32: of type int8, times its scale."""
    array, letters = arrays[name], name.rsplit("_", 1)[1]
    if array.dtype != np.int8:
        return array
    (scale,) = (other for other in arrays if other.startswith(f"{name}.scale_"))
    summed = [i for i, c in enumerate(letters) if c not in scale.rsplit("_", 1)[1]]
    return array * np.expand_dims(arrays[scale], summed)


def read_file(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Reads one safetensors file: the length of a JSON header, the header, the arrays' bytes."""
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    arrays = {}
    for name, entry in json.loads(content[8:start]).items():
        if name == "__metadata__":
            continue
        first, last = entry["data_offsets"]
        array = np.frombuffer(content[start + first : start + last], DTYPES[entry["dtype"]])
        if entry["dtype"] == "BF16":  # the upper half of a float32
            array = (array.astype(np.uint32) << 16).view(np.float32)
        arrays[name] = array.reshape(entry["shape"])
    return arrays


def logits(model: Model, source: list[int], target: list[int]) -> np.ndarray:
    """Returns [T, V]: after `bos` and each further English id, the scores of the next one.

    `source` and `target` are ids without special symbols.
    """
    special, formulas = model.config["special_ids"], model.config["formulas"]
    memory_LM = encode(model, [*source, special["eos"]])
    hidden_TM = decode(model, [special["bos"], *target], memory_LM)
    return hidden_TM @ model.arrays[formulas["softmax"]].T


def encode(model: Model, ids: list[int]) -> np.ndarray:
    x_LM = embed(model, "source_embedding", ids)
    for index in range(model.config["formulas"]["layers"]):
        layer = f"encoder.layers.{index}"
        y_LM = norm(model, f"{layer}.self_attention_norm", x_LM)
        x_LM = x_LM + attend(model, f"{layer}.self_attention", y_LM, y_LM, is_causal=False)
        x_LM = x_LM + feed_forward(model, "encoder", index, x_LM)
    return norm(model, "encoder_norm", x_LM)


def decode(model: Model, ids: list[int], memory_LM: np.ndarray) -> np.ndarray:
    x_TM = embed(model, "target_embedding", ids)
    for index in range(model.config["formulas"]["decoder_layers"]):
        layer = f"decoder.layers.{index}"
        y_TM = norm(model, f"{layer}.self_attention_norm", x_TM)
        x_TM = x_TM + attend(model, f"{layer}.self_attention", y_TM, y_TM, is_causal=True)
        y_TM = norm(model, f"{layer}.cross_attention_norm", x_TM)
        x_TM = x_TM + attend(model, f"{layer}.cross_attention", y_TM, memory_LM, is_causal=False)
        x_TM = x_TM + feed_forward(model, "decoder", index, x_TM)
    return norm(model, "decoder_norm", x_TM)


def embed(model: Model, side: str, ids: list[int]) -> np.ndarray:
    formulas = model.config["formulas"]
    x_LM = model.arrays[formulas[side]][ids] * np.float32(formulas["embedding_scale"])
    half = x_LM.shape[1] // 2
    exponent = np.arange(half, dtype=np.float32) / max(half - 1, 1)
    frequency = formulas["position_base"] ** -exponent
    angle = np.arange(len(ids), dtype=np.float32)[:, None] * frequency
    return x_LM + np.concatenate([np.sin(angle), np.cos(angle)], axis=1)


def norm(model: Model, name: str, x_LM: np.ndarray) -> np.ndarray:
    mean_square = np.mean(x_LM**2, axis=-1, keepdims=True)
    epsilon = model.config["formulas"]["norm_epsilon"]
    return x_LM / np.sqrt(mean_square + epsilon) * model.arrays[f"{name}.scale_M"]


def attend(model: Model, name: str, x_TM, memory_LM, is_causal: bool) -> np.ndarray:
    wq_MND, wk_MND, wv_MND = (model.arrays[f"{name}.w{each}_MND"] for each in "qkv")
    q_TND = np.einsum("TM,MND->TND", x_TM, wq_MND) * model.config["formulas"]["attention_scale"]
    k_LND = np.einsum("LM,MND->LND", memory_LM, wk_MND)
    v_LND = np.einsum("LM,MND->LND", memory_LM, wv_MND)
    logits_NTL = np.einsum("TND,LND->NTL", q_TND, k_LND)
    if is_causal:
        logits_NTL = np.where(np.tri(len(x_TM), dtype=bool), logits_NTL, -np.inf)
    y_TND = np.einsum("NTL,LND->TND", softmax(logits_NTL), v_LND)
    return np.einsum("TND,NDM->TM", y_TND, model.arrays[f"{name}.wo_NDM"])


def feed_forward(model: Model, stack: str, index: int, x_LM: np.ndarray) -> np.ndarray:
    layer = f"{stack}.layers.{index}"
    x_LM = norm(model, f"{layer}.feed_forward_norm", x_LM)
    if index not in model.config["formulas"]["sparse_layers"]:
        return two_products(model, f"{layer}.feed_forward", x_LM)
    y_LM = experts(model, stack, f"{layer}.feed_forward", x_LM)
    if model.config["model"]["moe"]["shared_ffn_dim"]:
        y_LM = y_LM + two_products(model, f"{layer}.feed_forward.shared_expert", x_LM)
    return y_LM


def two_products(model: Model, name: str, x_LM: np.ndarray) -> np.ndarray:
    wi_MH, wo_HM = model.arrays[f"{name}.wi_MH"], model.arrays[f"{name}.wo_HM"]
    return np.maximum(x_LM @ wi_MH, 0) @ wo_HM


def experts(model: Model, stack: str, name: str, x_LM: np.ndarray) -> np.ndarray:
    """Each token's weighted sum of its experts: no capacity, nothing dropped."""
    weigh = GATES[model.config["formulas"]["gates"][stack]]
    logits_LE = x_LM @ model.arrays[f"{name}.wg_ME"]
    wi_EMH, wo_EHM = model.arrays[f"{name}.wi_EMH"], model.arrays[f"{name}.wo_EHM"]
    y_LM = np.zeros_like(x_LM)
    for place, (x_M, logits_E) in enumerate(zip(x_LM, logits_LE, strict=True)):
        for expert, weight in weigh(logits_E, model.config["model"]["moe"]["num_choices"]):
            h_H = np.maximum(x_M @ wi_EMH[expert], 0)
            y_LM[place] += weight * (h_H @ wo_EHM[expert])
    return y_LM


def top1(logits_E: np.ndarray, num_choices: int) -> list[tuple[int, float]]:
    """The expert with the largest logit, weighted with its probability among all."""
    best = int(np.argmax(logits_E))
    return [(best, softmax(logits_E)[best])]


def top_k(logits_E: np.ndarray, num_choices: int) -> list[tuple[int, float]]:
    """The K with the largest logits, weighted with the softmax of these K."""
    if num_choices == 1:
        return top1(logits_E, 1)
    best = np.argsort(-logits_E, kind="stable")[:num_choices]
    return list(zip(best.tolist(), softmax(logits_E[best]).tolist(), strict=True))


GATES = {"top1": top1, "top2": lambda logits_E, _: top_k(logits_E, 2), "top_k": top_k}


def softmax(logits_L: np.ndarray) -> np.ndarray:
    exp_L = np.exp(logits_L - logits_L.max(axis=-1, keepdims=True))
    return exp_L / exp_L.sum(axis=-1, keepdims=True)
