"""Exports a dense model as CTranslate2 reads it: `ctranslate2.Translator(FOLDER)`.

Its Transformer has pre-norm, RMS norms, ReLU and embeddings times sqrt(M) as ours does; only the
position encodings differ, and a model may bring its own.
"""
# SPDX-License-Identifier: Apache-2.0

import pathlib
import shutil
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from gshard_mt.config.records import ModelConfig
from gshard_mt.data.tokenizer import bos_id, eos_id, model_paths, unk_id
from gshard_mt.errors import ExportError
from gshard_mt.export import vocabulary_map as vmap
from gshard_mt.export.card import write_card
from gshard_mt.export.description import Export
from gshard_mt.export.vocabulary_map import VocabularyMap
from gshard_mt.model.layers import NORM_EPSILON, POSITION_BASE

# The longest sentence, in subwords. CTranslate2's own table of positions counts from 1.
MAX_POSITIONS = 1024


# Of a layer: our name, CTranslate2's, and the weights that it wants next to each other.
_ATTENTION = (
    ("self_attention", "self_attention", ("qkv", "o")),
    ("cross_attention", "attention", ("q", "kv", "o")),
)


def check(model: ModelConfig) -> None:
    """Raises ExportError if CTranslate2 can't run such a model or isn't installed."""
    if model.moe.num_experts:
        raise ExportError(
            f"--format: found ctranslate2 for a model of {model.moe.num_experts} experts, which "
            "CTranslate2 can't run; accepted: safetensors, or a dense model"
        )
    try:
        import ctranslate2  # noqa: F401  # pyright: ignore[reportUnusedImport]
    except ImportError:
        raise ExportError(
            "--format: ctranslate2 is not installed; pip install 'gshard-mt[export]'"
        ) from None


def write(
    folder: pathlib.Path,
    made: Export,
    arrays: Iterator[np.ndarray],
    quantization: str = "float32",
    license: str = "",
    vocabulary_map: VocabularyMap | None = None,
) -> None:
    """Writes `model.bin`, its `config.json` and vocabularies, the SentencePiece models, the card.

    With a vocabulary map also `vmap.txt`. `arrays` are float32, in the order of `made.tensors`;
    all are held at once.
    """
    models = model_paths(made.workdir)
    write_card(
        folder,
        made,
        "ctranslate2",
        license,
        numbers=quantization,
        positions=MAX_POSITIONS,
        source=models[0].name,
        target=models[-1].name,
        has_map=bool(vocabulary_map),
    )
    named = {tensor.name: array for tensor, array in zip(made.tensors, arrays, strict=True)}
    spec = _specify(made.run.config.model, named)
    source, target = made.tokenizer.pieces
    spec.register_source_vocabulary(source)
    spec.register_target_vocabulary(target)
    spec.config.unk_token = target[unk_id]
    spec.config.eos_token = target[eos_id]
    spec.config.bos_token = target[bos_id]
    spec.config.decoder_start_token = spec.config.bos_token
    spec.config.add_source_eos = True
    spec.config.layer_norm_epsilon = NORM_EPSILON
    spec.validate()
    spec.optimize(quantization=quantization)
    spec.save(str(folder))
    if vocabulary_map:
        text = vocabulary_map.to_text(source, target)
        (folder / vmap.NAME).write_text(text, encoding="utf-8")
    for path in models:
        shutil.copyfile(path, folder / path.name)


def _specify(model: ModelConfig, named: Mapping[str, np.ndarray]) -> Any:
    from ctranslate2.specs import transformer_spec

    shape = {
        "num_heads": model.num_heads,
        "head_dim": model.head_dim,
        "rms_norm": True,
    }
    num_encoder_layers, num_decoder_layers = map(model.layers_of, (False, True))
    # Their attributes are None.
    encoder: Any = transformer_spec.TransformerEncoderSpec(num_encoder_layers, **shape)
    decoder: Any = transformer_spec.TransformerDecoderSpec(num_decoder_layers, **shape)
    positions = _positions(model.model_dim)
    target = named["target_embedding_VM"]
    # Copies, because a table that is used twice is quantized twice, in place.
    encoder.embeddings[0].weight = np.array(named.get("source_embedding_VM", target))
    decoder.embeddings.weight = np.array(target)
    decoder.projection.weight = np.array(named.get("softmax_VM", target))
    for stack, name in ((encoder, "encoder"), (decoder, "decoder")):
        stack.position_encodings.encodings = positions
        stack.layer_norm.gamma = named[f"{name}_norm.scale_M"]
        for number, layer in enumerate(stack.layer):
            _fill(layer, named, f"{name}.layers.{number}")
    return transformer_spec.TransformerSpec(encoder, decoder)


def _fill(layer: Any, named: Mapping[str, np.ndarray], prefix: str) -> None:
    """Sets the weights of a layer. CTranslate2's matrices are [out, in], ours [in, out]."""
    for part, attribute, products in _ATTENTION:
        attention = getattr(layer, attribute, None)
        if attention is None:
            continue
        weights = {
            letter: _product(named[f"{prefix}.{part}.w{letter}_{axes}"], axes)
            for letter, axes in (("q", "MND"), ("k", "MND"), ("v", "MND"), ("o", "NDM"))
        }
        attention.layer_norm.gamma = named[f"{prefix}.{part}_norm.scale_M"]
        for linear, letters in zip(attention.linear, products, strict=True):
            linear.weight = np.concatenate([weights[letter] for letter in letters])
    layer.ffn.layer_norm.gamma = named[f"{prefix}.feed_forward_norm.scale_M"]
    layer.ffn.linear_0.weight = _product(named[f"{prefix}.feed_forward.wi_MH"], "MH")
    layer.ffn.linear_1.weight = _product(named[f"{prefix}.feed_forward.wo_HM"], "HM")


def _product(weight: np.ndarray, letters: str) -> np.ndarray:
    """Returns the matrix [out, in] of a weight whose letters begin or end with the model width M.

    Heads and their widths become one axis.
    """
    width = weight.shape[letters.index("M")]
    matrix = weight.reshape(width, -1) if letters[0] == "M" else weight.reshape(-1, width)
    return np.array(matrix.T, order="C")


def _positions(width: int) -> np.ndarray:
    """Returns the position encodings from position 0 on, [MAX_POSITIONS, M]."""
    half = width // 2
    frequency_M = POSITION_BASE ** (-np.arange(half) / max(half - 1, 1))
    angle_LM = np.arange(MAX_POSITIONS)[:, None] * frequency_M
    return np.concatenate([np.sin(angle_LM), np.cos(angle_LM)], axis=1).astype(np.float32)
