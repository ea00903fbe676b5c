"""One experiment's settings: typed records with defaults, checked once, saved as JSON."""
# SPDX-License-Identifier: Apache-2.0

import dataclasses
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from gshard_mt.errors import ConfigError, suggest

# Annotations stay real types here (no postponed evaluation): overrides are parsed by them.


@dataclass
class CleaningConfig:
    """Which training pairs are dropped; a pair with an empty side always is."""

    max_characters: int = 1000  # a longer side, as read, drops the pair; 0 is no limit
    control_characters: bool = True  # signs of a broken encoding drop it
    copied: bool = True  # both sides the same but for case, spaces and punctuation
    html: bool = True  # entities, or tags that the other side has not
    placeholders: bool = True  # {entity}, %(name)s or addresses that differ
    numbers: bool = True  # each side has a number that the other has not
    swapped: bool = True  # the source is English and the English side is not
    script: bool = True  # hardly a letter of a side is in a script of its language
    language: bool = True  # identification is sure that a side is in another language
    max_length_ratio: float = 4.0  # more times the other side's subwords (and over 10); 0: no limit
    duplicates: bool = True  # the same pair was there before
    near_duplicates: bool = True  # it was there but for case, spaces, punctuation, digits


@dataclass
class DataConfig:
    """Which text, how it is cleaned and cut into subwords, and how languages are mixed."""

    recipe: str = "data/home_assistant_smoke.toml"  # corpus recipe, relative to where you stand
    tokenizer: str = ""  # prepared data whose tokenizer is used again; none: one is trained
    joint_vocabulary: bool = False  # one SentencePiece model for both sides
    source_vocab_size: int = 8000  # subwords of the source model (or of the joint one)
    target_vocab_size: int = 8000  # subwords of the English model
    vocab_temperature: float = 5.0  # languages in the tokenizer's training text, as `temperature`
    vocab_num_sentences: int = 1_000_000  # at most so many sentences train a tokenizer
    source_length: int = 64  # tokens of a packed source row; longer sentences are dropped
    target_length: int = 64  # tokens of a packed target row; longer sentences are dropped
    cleaning: CleaningConfig = field(default_factory=CleaningConfig)
    num_dev: int = 100  # pairs held out per language where the recipe has no dev split
    num_test: int = 100  # pairs held out per language where the recipe has no test split
    temperature: float = 5.0  # p_l ~ D_l^(1/T): 1 is the data, large is uniform
    seed: int = 0  # held-out choice, order of training pairs
    keep_out: str = ""  # text files (globs, by commas) whose sentences training may not hold
    character_coverage: float = 0.9995  # of the tokenizers' training text; the rest becomes bytes
    user_symbols: str = ""  # pieces that the tokenizers never cut, between spaces
    num_workers: int = 0  # processes that prepare; 0 is one a core


@dataclass
class MoeConfig:
    """The Mixture-of-Experts layers: which gate, how many slots, how tokens travel."""

    num_experts: int = 8  # E, in every other layer; 0 is a dense model
    gate: str = "top2"  # a name in routing.gating.GATINGS (docs/gates.md)
    decoder_gate: str = "same"  # another gate for the decoder
    num_choices: int = 2  # K: top_k, noisy_top_k, each level of hierarchical, at most expert_choice
    num_expert_groups: int = 0  # A, the first level of hierarchical; divides num_experts
    second_policy: str = "random"  # of top2's second expert in training: random | all
    count_rejected: bool = False  # top2: a rejected draw takes a slot, as Algorithm 1 is printed
    router_jitter: float = 0.0  # training: the gate reads its input times 1 +- this (Switch: 0.01)
    dispatch: str = "auto"  # a name in routing.dispatch.DISPATCHES; auto is the device's best
    group_size: int = 512  # S, tokens that compete for the same expert slots
    capacity_factor: float = 2.0  # C = capacity_factor * S / E in training, the paper's 2S/E
    eval_capacity_factor: float = 2.0  # the same for the dev loss; decoding drops nothing
    min_capacity: int = 1  # C is at least so much (and at most S)
    aux_loss_weight: float = 0.01  # k, with the auxiliary loss in its E^2 scale (uniform = 1)
    z_loss_weight: float = 0.0  # of the mean square of the router's log-partition (ST-MoE: 0.001)
    shared_ffn_dim: int = 0  # H of one more expert that every token takes; 0 is none
    all_to_all_dtype: str = "same"  # what travels between devices: same | bfloat16 | int8
    all_to_all_chunks: int = 1  # slots travel in so many parts, one under the work on another


@dataclass
class ModelConfig:
    """The Transformer of the paper; letters are the paper's."""

    num_layers: int = 4  # L: encoder and decoder together, half each
    model_dim: int = 128  # M
    ffn_dim: int = 512  # H, of dense feed-forwards and of every expert
    num_heads: int = 4  # N
    head_dim: int = 32  # D
    moe: MoeConfig = field(default_factory=MoeConfig)
    dropout_rate: float = 0.1  # input, residual and attention
    ffn_dropout_rate: float = 0.0  # after the ReLU of every feed-forward, dense or expert
    tie_embeddings: bool = False  # source and target share one table (needs data.joint_vocabulary)
    tie_softmax: bool = True  # the softmax uses the target embedding
    dtype: str = "float32"  # of activations: float32 | bfloat16
    remat: str = "none"  # recompute in the backward pass: none | full | experts (all but exchanges)


@dataclass
class TrainConfig:
    """How long, how fast, how often."""

    num_steps: int = 1000
    batch_rows: int = 64  # B, packed rows in a step over all devices
    accumulation_steps: int = 1  # micro-batches of a step, one after another; divides batch_rows
    optimizer: str = "adafactor"  # adafactor | adamw
    learning_rate: float = 0.01  # the peak of the schedule
    schedule: str = "inverse_sqrt"  # inverse_sqrt | linear (to 0) | cosine | constant | paper
    warmup_steps: int = 100
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0  # clips the global norm of the gradient; 0 is off
    label_smoothing: float = 0.1
    bad_steps: str = "stop"  # stop | skip: where loss or gradient is no number, or the loss a spike
    spike_sigmas: float = 0.0  # a spike: so many deviations above the last 128 steps; 0: none is
    seed: int = 0  # parameters, dropout, random second expert
    log_every: int = 10  # steps between two lines of metrics.jsonl
    eval_every: int = 200  # steps between two dev evaluations
    bleu_every: int = 0  # steps between two dev BLEUs of a sample, found greedily; 0: none
    bleu_sentences: int = 100  # of each language's dev, spread over it, so many are the sample
    best_by: str = "nll"  # nll | bleu: which dev figure says what the best checkpoint is
    stop_after: int = 0  # ends once so many figures in a row are no better than the best; 0: never
    save_every: int = 200  # steps between two checkpoints
    save_minutes: float = 0.0  # one more at the next line of metrics if so long none came; 0: none
    max_checkpoints: int = 3  # the last so many are kept, and the best one


@dataclass
class MeshConfig:
    """Devices as a (data, expert, model) grid, in stages or not; -1 takes what is left."""

    data: int = 1  # shares the batch
    expert: int = -1  # shares the batch, and every device owns some experts
    model: int = 1  # shares every wide layer: hidden units and attention heads
    shard_parameters: bool = False  # data and expert share parameters and optimizer state, too
    stage: int = 1  # has a part of the layers each (dense models); micro-batches flow through
    num_cpu_devices: int = 0  # simulate so many on the CPU of each process; 0 takes what is there


@dataclass
class DecodeConfig:
    """Beam search."""

    beam_size: int = 4  # W; 1 is greedy
    length_penalty: float = 1.0  # alpha of ((5 + length) / 6)^alpha
    max_length_factor: float = 2.0  # at most so many target tokens a source token, plus 10
    max_source_length: int = 256  # subwords; a longer line is translated up to there
    batch_size: int = 0  # sentences decoded at once over all devices; 0: 32 on a CPU, else 512


@dataclass
class Config:
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)
    decode: DecodeConfig = field(default_factory=DecodeConfig)


# Accepted names, where no table of functions below this floor holds them.
OPTIMIZERS = ("adafactor", "adamw")
SCHEDULES = ("inverse_sqrt", "linear", "cosine", "constant", "paper")
DTYPES = ("float32", "bfloat16")
BAD_STEPS = ("stop", "skip")
BEST_BY = ("nll", "bleu")
REMATS = ("none", "full", "experts")
SECOND_POLICIES = ("random", "all")
ALL_TO_ALL_DTYPES = ("same", "bfloat16", "int8")

# Old key -> new key: refused where a user writes it, translated where an old run has it.
RENAMED = {"model.expert_dropout_rate": "model.ffn_dropout_rate"}

_TYPE_NAMES = {int: "an integer", float: "a number", bool: "true or false", str: "text"}


def section_types() -> dict[str, Any]:
    """Returns the record of every section, `{"data": DataConfig, ..., "model.moe": MoeConfig}`."""
    sections: dict[str, Any] = {}

    def visit(record: type, prefix: str) -> None:
        for item in dataclasses.fields(record):  # type: ignore[arg-type]
            if dataclasses.is_dataclass(item.type):
                sections[prefix + item.name] = item.type
                visit(item.type, f"{prefix}{item.name}.")  # type: ignore[arg-type]

    visit(Config, "")
    return sections


def section_fields(record: Any) -> list[dataclasses.Field]:
    """Returns the fields of a section that are values, not sections within it."""
    return [item for item in dataclasses.fields(record) if not dataclasses.is_dataclass(item.type)]


def known_keys() -> dict[str, Any]:
    """Returns every dotted key with its type, `{"model.num_layers": int, ...}`, in order."""
    return {
        f"{section}.{item.name}": item.type
        for section, record in section_types().items()
        for item in section_fields(record)
    }


def describe_type(kind: type) -> str:
    """Returns a field's type in a user's words, as error messages put it."""
    return _TYPE_NAMES[kind]


def refuse_unknown_key(key: str) -> None:
    """Raises ConfigError, naming the nearest known word, unless the dotted key is a known one."""
    if key in RENAMED:
        raise ConfigError(f"config.{key}: renamed to {RENAMED[key]}")
    sections = section_types()
    if key in sections:
        first = section_fields(sections[key])[0].name
        raise ConfigError(f"config.{key}: is a section; accepted: one of its keys, as {first}")
    section, _, name = key.rpartition(".")
    if not section:
        section, name = name, ""
    if section not in sections:
        known = [s for s in sections if s.count(".") == section.count(".")]
        raise ConfigError(f"config.{section}: unknown key{suggest(section, known)}")
    names = [item.name for item in section_fields(sections[section])]
    if name not in names:
        inner = (inside for inside in sections if inside.startswith(f"{section}."))
        nested = next((f"{i}.{name}" for i in inner if f"{i}.{name}" in known_keys()), None)
        near = f"; did you mean {nested}?" if nested else suggest(name, names)
        raise ConfigError(f"config.{key}: unknown key{near}")


def to_json(config: Config) -> dict[str, dict[str, Any]]:
    """Returns the config as plain values, one object a section, as `config.json` has it."""
    return dataclasses.asdict(config)


def from_json(values: dict[str, Any]) -> Config:
    """Returns the config written by `to_json`, by its old keys too; a missing one is the default.

    Raises ConfigError for an unknown key and for a value of another type.
    """
    config = _from_json(Config, values, "")
    _check_types(config)
    return config


def _from_json(record: Any, values: Any, prefix: str) -> Any:
    if not isinstance(values, dict):
        accepted = "an object of keys" if prefix else "an object of sections"
        raise ConfigError(
            f"config{prefix and '.' + prefix[:-1]}: found {values!r}, accepted: {accepted}"
        )
    types = {item.name: item.type for item in dataclasses.fields(record)}
    made = {}
    for name, value in values.items():
        key = f"{prefix}{name}"
        name = RENAMED.get(key, key).removeprefix(prefix)
        if name not in types:
            refuse_unknown_key(prefix + name)
        is_section = dataclasses.is_dataclass(types[name])
        made[name] = _from_json(types[name], value, f"{prefix}{name}.") if is_section else value
    return record(**made)


def mesh_shape(config: Config) -> tuple[int, int, int, int]:
    """Returns what is asked of the grid of devices: data, expert, model, stage."""
    return config.mesh.data, config.mesh.expert, config.mesh.model, config.mesh.stage


def decoding_mesh_shape(config: Config) -> tuple[int, int, int]:
    """Returns the same devices as a grid without stages, which translation does not have."""
    data, expert, model, stage = mesh_shape(config)
    return data * stage if data > 0 else data, expert, model


def differing_keys(first: Config, second: Config) -> list[str]:
    """Returns the dotted keys at which two configs differ, in the order of the fields."""
    values, others = dict(items(first)), dict(items(second))
    return [key for key in values if values[key] != others[key]]


def check(config: Config) -> None:
    """Raises ConfigError at the first value that can't work.

    The names of gates and dispatches are checked where their tables are (`routing`), the number of
    devices where they are known (`partitioning.mesh`).
    """
    _check_types(config)
    values = dict(items(config))
    for key, (is_accepted, accepted) in ACCEPTED.items():
        if not is_accepted(values[key]):
            raise ConfigError(f"config.{key}: found {values[key]!r}, accepted: {accepted}")
    _check_layers(config.model)
    _check_embeddings(config)
    _check_groups(config)
    _check_mesh(config)
    if config.train.best_by == "bleu" and not config.train.bleu_every:
        raise ConfigError("config.train.best_by: found 'bleu', accepted: nll with bleu_every=0")


def section_of(config: Config, section: str) -> Any:
    """Returns the record of a section by its dotted name."""
    return functools.reduce(getattr, section.split("."), config)


def items(config: Config) -> Iterator[tuple[str, Any]]:
    """Yields every dotted key with its value, in the order of the fields."""
    for section, record in section_types().items():
        for item in section_fields(record):
            yield f"{section}.{item.name}", getattr(section_of(config, section), item.name)


def _check_types(config: Config) -> None:
    sections = section_types()
    for name in vars(config):  # `config.modle = ...` in a file makes a new attribute
        if name not in sections:
            refuse_unknown_key(name)
    for section, wanted in sections.items():
        record = section_of(config, section)
        if not isinstance(record, wanted):
            accepted = f"a {wanted.__name__}"
            raise ConfigError(f"config.{section}: found {record!r}, accepted: {accepted}")
        for name in vars(record):
            if f"{section}.{name}" not in sections and name not in [
                item.name for item in section_fields(wanted)
            ]:
                refuse_unknown_key(f"{section}.{name}")
    values = dict(items(config))
    for key, kind in known_keys().items():
        value = values[key]
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not (is_number if kind is float else type(value) is kind):
            raise ConfigError(f"config.{key}: found {value!r}, accepted: {describe_type(kind)}")


def _check_layers(model: ModelConfig) -> None:
    # A stack has half the layers, and a sparse one is made of pairs: MoE, dense.
    step = 4 if model.moe.num_experts else 2
    if model.num_layers < step or model.num_layers % step:
        why = "two equal stacks of [MoE, dense] pairs" if step == 4 else "two equal stacks"
        raise ConfigError(
            f"config.model.num_layers: found {model.num_layers}, "
            f"accepted: a multiple of {step} (encoder and decoder are {why})"
        )


def _check_embeddings(config: Config) -> None:
    if config.model.tie_embeddings and not config.data.joint_vocabulary:
        raise ConfigError(
            "config.model.tie_embeddings: found True with two vocabularies; "
            "set config.data.joint_vocabulary=true too"
        )


def _check_groups(config: Config) -> None:
    rows, num_parts = config.train.batch_rows, config.train.accumulation_steps
    if rows % num_parts:
        raise ConfigError(
            f"config.train.accumulation_steps: found {num_parts}, "
            f"accepted: a divisor of train.batch_rows={rows}"
        )
    if not config.model.moe.num_experts:
        return
    size = config.model.moe.group_size
    lengths = {"source": config.data.source_length, "target": config.data.target_length}
    for side, length in lengths.items():
        tokens = rows // num_parts * length
        if tokens % size:
            part = "batch" if num_parts == 1 else "micro-batch"
            by = "" if num_parts == 1 else " / train.accumulation_steps"
            raise ConfigError(
                f"config.model.moe.group_size: found {size}, accepted: a divisor of the {tokens} "
                f"{side} tokens of a {part} (train.batch_rows{by} x data.{side}_length)"
            )


def _check_mesh(config: Config) -> None:
    mesh, num_experts = config.mesh, config.model.moe.num_experts
    if mesh_shape(config).count(-1) > 1:
        raise ConfigError("config.mesh: found -1 more than once, accepted: only one axis is -1")
    if num_experts and mesh.expert > 0 and num_experts % mesh.expert:
        raise ConfigError(
            f"config.mesh.expert: found {mesh.expert}, "
            f"accepted: a divisor of model.moe.num_experts={num_experts}"
        )
    if mesh.stage > 1 and num_experts:
        raise ConfigError(
            f"config.mesh.stage: found {mesh.stage}, accepted: 1 with experts (a pipeline is for "
            "dense models, model.moe.num_experts=0)"
        )
    depth = config.model.num_layers // 2
    if depth % mesh.stage:
        raise ConfigError(
            f"config.mesh.stage: found {mesh.stage}, accepted: a divisor of the {depth} layers of "
            "encoder and decoder (model.num_layers / 2)"
        )


Accepted = tuple[Callable[[Any], bool], str]


def _at_least(least: int) -> Accepted:
    return lambda value: value >= least, f"{least} or more"


def _above_zero() -> Accepted:
    return lambda value: value > 0, "more than 0"


def _rate() -> Accepted:
    return lambda value: 0 <= value < 1, "at least 0 and less than 1"


def _one_of(names: tuple[str, ...]) -> Accepted:
    return lambda value: value in names, ", ".join(names)


def _axis_size() -> Accepted:
    return lambda value: value == -1 or value >= 1, "1 or more, or -1 for what is left"


ACCEPTED: dict[str, Accepted] = {
    "data.recipe": (bool, "the path of a corpus recipe"),
    "data.source_vocab_size": _at_least(8),
    "data.target_vocab_size": _at_least(8),
    "data.vocab_temperature": _above_zero(),
    "data.vocab_num_sentences": _at_least(1),
    "data.source_length": _at_least(2),
    "data.target_length": _at_least(2),
    "data.cleaning.max_characters": _at_least(0),
    "data.cleaning.max_length_ratio": (
        lambda value: value == 0 or value >= 1,
        "1 or more, or 0 for no limit",
    ),
    "data.num_dev": _at_least(0),
    "data.num_test": _at_least(0),
    "data.temperature": _above_zero(),
    "data.seed": _at_least(0),
    "data.character_coverage": (lambda value: 0 < value <= 1, "more than 0 and at most 1"),
    "data.num_workers": _at_least(0),
    "model.model_dim": _at_least(1),
    "model.ffn_dim": _at_least(1),
    "model.num_heads": _at_least(1),
    "model.head_dim": _at_least(1),
    "model.dropout_rate": _rate(),
    "model.ffn_dropout_rate": _rate(),
    "model.dtype": _one_of(DTYPES),
    "model.remat": _one_of(REMATS),
    "model.moe.num_experts": (lambda value: value == 0 or value >= 2, "0 (dense), or 2 or more"),
    "model.moe.num_choices": _at_least(1),
    "model.moe.num_expert_groups": _at_least(0),
    "model.moe.second_policy": _one_of(SECOND_POLICIES),
    "model.moe.router_jitter": _rate(),
    "model.moe.group_size": _at_least(1),
    "model.moe.capacity_factor": _above_zero(),
    "model.moe.eval_capacity_factor": _above_zero(),
    "model.moe.min_capacity": _at_least(1),
    "model.moe.aux_loss_weight": _at_least(0),
    "model.moe.z_loss_weight": _at_least(0),
    "model.moe.shared_ffn_dim": _at_least(0),
    "model.moe.all_to_all_dtype": _one_of(ALL_TO_ALL_DTYPES),
    "model.moe.all_to_all_chunks": _at_least(1),
    "train.num_steps": _at_least(1),
    "train.batch_rows": _at_least(1),
    "train.accumulation_steps": _at_least(1),
    "train.optimizer": _one_of(OPTIMIZERS),
    "train.learning_rate": _above_zero(),
    "train.schedule": _one_of(SCHEDULES),
    "train.warmup_steps": _at_least(0),
    "train.weight_decay": _at_least(0),
    "train.max_grad_norm": _at_least(0),
    "train.label_smoothing": _rate(),
    "train.seed": _at_least(0),
    "train.log_every": _at_least(1),
    "train.eval_every": _at_least(1),
    "train.bleu_every": _at_least(0),
    "train.bleu_sentences": _at_least(1),
    "train.best_by": _one_of(BEST_BY),
    "train.stop_after": _at_least(0),
    "train.save_every": _at_least(1),
    "train.save_minutes": _at_least(0),
    "train.bad_steps": _one_of(BAD_STEPS),
    "train.spike_sigmas": _at_least(0),
    "train.max_checkpoints": _at_least(1),
    "mesh.data": _axis_size(),
    "mesh.expert": _axis_size(),
    "mesh.model": _axis_size(),
    "mesh.stage": _at_least(1),
    "mesh.num_cpu_devices": _at_least(0),
    "decode.beam_size": _at_least(1),
    "decode.length_penalty": _at_least(0),
    "decode.max_length_factor": _above_zero(),
    "decode.max_source_length": _at_least(2),
    "decode.batch_size": _at_least(0),
}
