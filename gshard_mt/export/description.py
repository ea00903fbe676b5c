"""The description of an exported model for programs: `config.json`."""
# SPDX-License-Identifier: Apache-2.0

import math
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from gshard_mt.config import keys
from gshard_mt.config.records import ModelConfig
from gshard_mt.data.case_marks import NORMAL, UPPER
from gshard_mt.data.tokenizer import Tokenizer, bos_id, eos_id, pad_id, unk_id
from gshard_mt.languages import source_language
from gshard_mt.model.layers import NORM_EPSILON, POSITION_BASE
from gshard_mt.model.layout import Tensor
from gshard_mt.partitioning.axes import SUMMED, letters_of, scale_letters
from gshard_mt.run.directory import Run
from gshard_mt.run.exported import FORMAT, FORMAT_VERSION, INT8, SECTIONS, scale_name
from gshard_mt.run.pruning import Pruning


class Export(NamedTuple):
    """Everything about an export but the values of its parameters."""

    workdir: pathlib.Path
    run: Run
    step: int
    dtype: str  # of the arrays in the files
    tokenizer: Tokenizer
    tensors: Sequence[Tensor]
    pruning: Pruning | None = None  # `run` is what is left
    averaged: tuple[int, ...] = ()  # the steps whose mean the parameters are, if any

    @property
    def name(self) -> str:
        """What the checkpoint is called, as in the run's `eval/`: `7`, or `average-7`."""
        return f"average-{self.step}" if self.averaged else str(self.step)

    @property
    def stored(self) -> list[Tensor]:
        """What the files hold: in 8 bits, a weight is followed by its scale."""
        found = []
        for tensor in self.tensors:
            found.append(tensor)
            if self.is_quantized(tensor):
                letters = letters_of(tensor.name)
                sizes = dict(zip(letters, tensor.shape, strict=True))
                shape = tuple(sizes[letter] for letter in scale_letters(letters))
                found.append(tensor._replace(name=scale_name(tensor.name), shape=shape))
        return found

    def is_quantized(self, tensor: Tensor) -> bool:
        """Whether a parameter is stored in 8 bits with a scale."""
        return self.dtype == INT8 and letters_of(tensor.name) in SUMMED

    @property
    def num_parameters(self) -> int:
        return sum(math.prod(tensor.shape) for tensor in self.tensors)


def to_json(export: Export) -> dict[str, Any]:
    """Returns the content of `config.json`, which with the arrays is enough to build the model."""
    config, origin = keys.to_json(export.run.config), export.run.origin
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "step": export.step,
        "averaged_steps": list(export.averaged) or None,
        "dtype": export.dtype,
        "num_parameters": export.num_parameters,
        "init_from": origin and origin._asdict() | {"run": pathlib.Path(origin.run).name},
        "vocabulary": dict(zip(("source", "target"), export.tokenizer.vocab_sizes, strict=True)),
        "tokenizer": {
            side: f"tokenizer/{'joint' if config['data']['joint_vocabulary'] else side}.model"
            for side in ("source", "target")
        },
        "case_marks": {"upper": UPPER, "normal": NORMAL}
        if export.tokenizer.has_case_marks
        else None,
        "special_ids": {"pad": pad_id, "eos": eos_id, "bos": bos_id, "unk": unk_id},
        "languages": [source_language(pair) for pair in export.run.train_pairs],
        "pruning": export.pruning and export.pruning._asdict(),
        "train_pairs": dict(export.run.train_pairs),
        "data_fingerprint": export.run.data_fingerprint,
        "earlier_data": [
            {"data_fingerprint": each.fingerprint, "last_step": each.last_step}
            for each in export.run.earlier
        ],
        "formulas": _formulas(export.run.config.model),
        **{
            section: {key: config[section][key] for key in names or config[section]}
            for section, names in SECTIONS.items()
        },
    }


def _formulas(model: ModelConfig) -> dict[str, Any]:
    """Returns what the sizes don't determine; docs/export.md explains the values."""
    encoder, decoder = (model.layers_of(is_decoder) for is_decoder in (False, True))
    sparse = list(range(0, max(encoder, decoder), 2)) if model.moe.num_experts else []
    return {
        "norm": "rms",
        "norm_epsilon": NORM_EPSILON,
        "norm_place": "before",
        "embedding_scale": math.sqrt(model.model_dim),
        "positions": "sinusoidal",
        "position_base": POSITION_BASE,
        "attention_scale": 1.0 / math.sqrt(model.head_dim),
        "activation": "relu",
        "has_biases": False,
        "source_embedding": "target_embedding_VM"
        if model.tie_embeddings
        else "source_embedding_VM",
        "target_embedding": "target_embedding_VM",
        "softmax": "target_embedding_VM" if model.tie_softmax else "softmax_VM",
        "layers": encoder,
        "decoder_layers": decoder,
        "sparse_layers": sparse,
        "gates": {
            "encoder": model.moe.gate_of(is_decoder=False) if sparse else None,
            "decoder": model.moe.gate_of(is_decoder=True) if sparse else None,
        },
    }
