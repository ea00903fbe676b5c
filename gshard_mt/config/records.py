"""The settings of an experiment: every key with its default, meaning and accepted values."""
# SPDX-License-Identifier: Apache-2.0

# Annotations stay real types (no postponed evaluation): overrides are parsed by them.

from dataclasses import dataclass, field

from gshard_mt.config.options import PATH, PATHS, RATE, Accepted, above, at_least, one_of, option
from gshard_mt.config.stages import StageConfig
from gshard_mt.routing.strategies import DISPATCH_NAMES, STRATEGIES

_AXIS_SIZE = at_least(1).or_value(-1, "the remaining devices")
_EVERY = at_least(1).or_value(0, "never")


@dataclass(slots=True)
class CleaningConfig:
    """Which training pairs are dropped. A pair with an empty side always is."""

    max_characters: int = option(
        1000, "drop a pair if a side, as read, is longer", at_least(1).or_value(0, "no limit")
    )
    control_characters: bool = option(True, "drop a pair with signs of a broken encoding")
    copied: bool = option(True, "drop a pair whose sides differ in case, space, punctuation only")
    html: bool = option(True, "drop a pair with HTML entities, or tags that only one side has")
    placeholders: bool = option(True, "drop a pair whose {entity}, %(name)s or addresses differ")
    numbers: bool = option(True, "drop a pair if each side has a number that the other lacks")
    swapped: bool = option(True, "drop a pair with English on the source side only")
    script: bool = option(True, "drop a pair with a side hardly in a script of its language")
    language: bool = option(True, "drop a pair with a side identified as another language")
    max_length_ratio: float = option(
        3.0,
        "drop a pair if a side has more than 10 subwords and this many times what is usual "
        "for the other's",
        at_least(1).or_value(0, "no limit"),
    )
    duplicates: bool = option(True, "drop a pair that has occurred before")
    near_duplicates: bool = option(
        True, "drop a pair that has occurred before but for case, space, punctuation, digits"
    )


@dataclass(slots=True)
class AugmentationConfig:
    """Which share of the training pairs is perturbed, so that unusual input is translated too."""

    upper_case: float = option(0.0, "both sides in capitals", RATE)
    title_case: float = option(0.0, "a capital at the start of each word of both sides", RATE)
    typos: float = option(0.0, "misspelled words in the source", RATE)
    no_final_punctuation: float = option(0.0, "no punctuation at the end of both sides", RATE)
    placeholders: float = option(0.0, "the same {name}, %s ... in both sides", RATE)
    languages: str = option("", "source languages, separated by commas; empty: all")


@dataclass(slots=True)
class DataConfig:
    """Which text, how it is cleaned and split into subwords, and how languages are mixed."""

    recipe: str = option("", "corpus recipe of the data", PATH)
    tokenizer: str = option("", "prepared data whose tokenizer is reused; empty: train one", PATH)
    extend_tokenizer: str = option(
        "", "prepared data whose tokenizer is reused with more subwords, for new text", PATH
    )
    held_out: str = option(
        "",
        "prepared data whose dev and test text is not trained on, and whose training text is in no "
        "dev or test; empty: those of tokenizer or extend_tokenizer",
        PATHS,
    )
    joint_vocabulary: bool = option(False, "one SentencePiece model for both sides")
    source_vocab_size: int = option(8000, "most subwords of the source or joint model", at_least(8))
    target_vocab_size: int = option(8000, "most subwords of the target model", at_least(8))
    vocab_temperature: float = option(5.0, "`temperature` of the tokenizers' text", above(0))
    vocab_num_sentences: int = option(
        1_000_000, "most sentences that train a tokenizer", at_least(1)
    )
    source_length: int = option(
        64, "tokens of a source row; longer sentences are dropped", at_least(2)
    )
    target_length: int = option(
        64, "tokens of a target row; longer sentences are dropped", at_least(2)
    )
    cleaning: CleaningConfig = field(default_factory=CleaningConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    max_drop_share: float = option(
        1.0,
        "share of a language's or a corpus's pairs dropped for one reason that is an error",
        Accepted(lambda value: 0 < value <= 1, "more than 0 and at most 1 (never)"),
    )
    num_dev: int = option(100, "held-out pairs per language if the recipe has no dev", at_least(0))
    num_test: int = option(
        100, "held-out pairs per language if the recipe has no test", at_least(0)
    )
    temperature: float = option(
        5.0, "T of the mixture p_l ~ D_l^(1/T): 1 is the data's own, large is uniform", above(0)
    )
    seed: int = option(0, "seed of held-out pairs and of the order of training pairs", at_least(0))
    keep_out: str = option("", "text files whose sentences are not trained on", PATHS)
    character_coverage: float = option(
        0.9995,
        "share of the characters that get pieces of their own; the rest are split into bytes",
        Accepted(lambda value: 0 < value <= 1, "more than 0 and at most 1"),
    )
    user_symbols: str = option("", "pieces that are never split, separated by spaces")
    case_marks: bool = option(
        False, "words in capitals share the subwords of other text, between marks"
    )
    num_workers: int = option(0, "preparing processes", at_least(1).or_value(0, "one per core"))


@dataclass(slots=True)
class MoeConfig:
    """The Mixture-of-Experts layers: which gate, how many slots, how tokens travel."""

    num_experts: int = option(
        8, "E, in every other layer", at_least(2).or_value(0, "a dense model")
    )
    gate: str = option("top2", "how tokens choose experts (docs/gates.md)", one_of(*STRATEGIES))
    decoder_gate: str = option(
        "same",
        "gate of the decoder; same: that of the encoder",
        one_of("same", *(name for name, gate in STRATEGIES.items() if gate.is_causal)),
    )
    num_choices: int = option(
        2,
        "K, experts of a token: top_k, noisy_top_k, each level of hierarchical; the most of "
        "expert_choice",
        at_least(1),
    )
    num_expert_groups: int = option(
        0,
        "A, groups of experts at the first level of hierarchical; divides num_experts",
        at_least(2).or_value(0, "none"),
    )
    second_policy: str = option(
        "random",
        "top2's second expert in training: drawn by its weight, or always used",
        one_of("random", "all"),
    )
    count_rejected: bool = option(
        False, "top2: rejected choices take slots, as Algorithm 1 is printed"
    )
    router_jitter: float = option(0.0, "training: scales the gate's input by 1 ± this", RATE)
    dispatch: str = option(
        "auto", "how tokens reach experts; auto: the best for the device", one_of(*DISPATCH_NAMES)
    )
    group_size: int = option(512, "S, tokens that compete for the same expert slots", at_least(1))
    capacity_factor: float = option(
        2.0, "training: C = capacity_factor * S / E slots per expert and group", above(0)
    )
    eval_capacity_factor: float = option(
        2.0, "the same for dev loss; decoding drops nothing", above(0)
    )
    min_capacity: int = option(1, "smallest C (at most S)", at_least(1))
    aux_loss_weight: float = option(
        0.01, "k, weight of the auxiliary loss, which is 1 for uniform routing", at_least(0)
    )
    z_loss_weight: float = option(
        0.0, "weight of the router's mean squared log-partition (ST-MoE: 0.001)", at_least(0)
    )
    shared_ffn_dim: int = option(0, "H of an expert of all tokens", at_least(1).or_value(0, "none"))
    all_to_all_dtype: str = option(
        "same",
        "what devices exchange; same: the dtype of activations",
        one_of("same", "bfloat16", "int8"),
    )
    all_to_all_chunks: int = option(
        1,
        "parts of an exchange, so that experts can compute one while another travels",
        at_least(1),
    )

    def gate_of(self, is_decoder: bool) -> str:
        """Returns the name of a stack's gate."""
        return self.decoder_gate if is_decoder and self.decoder_gate != "same" else self.gate


@dataclass(slots=True)
class ModelConfig:
    """The Transformer of the paper; letters are the paper's."""

    num_layers: int = option(
        4,
        "layers of encoder and decoder together",
        Accepted(lambda value: value >= 2, "a multiple of 4, dense: of 2, if shared equally"),
    )
    num_decoder_layers: int = option(
        0,
        "layers of the decoder; 0: half of num_layers",
        Accepted(lambda value: value >= 0, "0 or more; with experts: even"),
    )
    model_dim: int = option(128, "M, width of the model", at_least(1))
    ffn_dim: int = option(512, "H, hidden units of a dense feed-forward or an expert", at_least(1))
    num_heads: int = option(4, "N, attention heads", at_least(1))
    head_dim: int = option(32, "D, width of a head", at_least(1))
    moe: MoeConfig = field(default_factory=MoeConfig)
    dropout_rate: float = option(0.1, "dropout of embeddings, residuals and attention", RATE)
    ffn_dropout_rate: float = option(
        0.0, "dropout after every ReLU, in dense layers and experts", RATE
    )
    tie_embeddings: bool = option(False, "one embedding table (needs data.joint_vocabulary)")
    tie_softmax: bool = option(True, "the softmax uses the target embedding")
    dtype: str = option("float32", "dtype of activations", one_of("float32", "bfloat16"))
    remat: str = option(
        "none",
        "what the backward pass recomputes; experts: all but the exchanges between devices",
        one_of("none", "full", "experts"),
    )

    def layers_of(self, is_decoder: bool) -> int:
        """Returns the number of layers of a stack."""
        num_decoder_layers = self.num_decoder_layers or self.num_layers // 2
        return num_decoder_layers if is_decoder else self.num_layers - num_decoder_layers


@dataclass(slots=True)
class TrainConfig:
    """How long, how fast, how often."""

    num_steps: int = option(1000, "training steps", at_least(1))
    batch_rows: int = option(64, "B, packed rows per step over all devices", at_least(1))
    accumulation_steps: int = option(1, "micro-batches per step; divides batch_rows", at_least(1))
    optimizer: str = option("adafactor", "optimizer", one_of("adafactor", "adamw"))
    learning_rate: float = option(0.01, "peak of the schedule", above(0))
    schedule: str = option(
        "inverse_sqrt",
        "learning rate after the warmup; linear and cosine fall to 0; paper: inverse_sqrt without "
        "a rise",
        one_of("inverse_sqrt", "linear", "cosine", "constant", "paper"),
    )
    warmup_steps: int = option(100, "steps of rising learning rate (paper: constant)", at_least(0))
    stages: tuple = option(
        (),
        "parts of the training with weights of corpora, temperature and rate of their own, such as "
        "(StageConfig(until=500), StageConfig(rate=0.1))",
        Accepted(
            lambda value: all(isinstance(each, StageConfig) for each in value),
            "StageConfigs in ascending order, set in the config file",
        ),
    )
    weight_decay: float = option(0.0, "weight decay of the optimizer", at_least(0))
    l2_sp: float = option(
        0.0, "weight decay towards the parameters of --init_from (L2-SP)", at_least(0)
    )
    max_grad_norm: float = option(1.0, "clips the gradient's norm", above(0).or_value(0, "off"))
    freeze: str = option(
        "",
        "parameters that stay as they begin (globs, by commas), such as decoder/*, *_embedding_VM",
    )
    rate_scales: str = option(
        "", "learning rates relative to the others' (globs, by commas), such as */wg_ME=0.1"
    )
    label_smoothing: float = option(0.1, "probability spread over the vocabulary", RATE)
    bad_steps: str = option(
        "stop",
        "what to do if the loss or the gradient is not finite, or the loss is a spike",
        one_of("stop", "skip"),
    )
    spike_sigmas: float = option(
        0.0,
        "a spike is this many standard deviations above the mean of the last 128 steps",
        above(0).or_value(0, "off"),
    )
    seed: int = option(0, "seed of parameters, dropout and the random second expert", at_least(0))
    log_every: int = option(10, "steps between two lines of metrics.jsonl", at_least(1))
    eval_every: int = option(200, "steps between two dev evaluations", at_least(1))
    bleu_every: int = option(0, "steps between two dev BLEUs of a greedy sample", _EVERY)
    bleu_sentences: int = option(100, "that sample's size per language", at_least(1))
    sample_translations: int = option(
        3, "dev sentences whose greedy translations every evaluation shows", at_least(0)
    )
    best_by: str = option("nll", "dev metric of the best checkpoint", one_of("nll", "bleu"))
    stop_after: int = option(0, "early stopping after this many evaluations without a gain", _EVERY)
    save_every: int = option(200, "steps between checkpoints; a multiple of log_every", at_least(1))
    save_minutes: float = option(
        0.0,
        "also save with the next line of metrics if this many minutes passed without a checkpoint",
        above(0).or_value(0, "never"),
    )
    max_checkpoints: int = option(3, "latest checkpoints kept, besides the best one", at_least(1))


@dataclass(slots=True)
class MeshConfig:
    """The devices as a (data, expert, model) grid, with pipeline stages or without."""

    data: int = option(1, "devices that share the batch", _AXIS_SIZE)
    expert: int = option(-1, "devices that share the batch and own some experts each", _AXIS_SIZE)
    model: int = option(1, "devices that share hidden units and attention heads", _AXIS_SIZE)
    shard_parameters: bool = option(False, "split parameters and optimizer state over data, expert")
    stage: int = option(1, "pipeline stages, each with some of a dense model's layers", at_least(1))
    dcn_data: int = option(
        1,
        "slices that share the batch over a slow network; each has all experts",
        at_least(1),
    )
    num_cpu_devices: int = option(
        0, "simulated CPU devices per process", at_least(1).or_value(0, "use the real devices")
    )

    def shape(self) -> tuple[int, int, int, int, int]:
        """Returns the sizes asked for: data, expert, model, stage, dcn_data."""
        return self.data, self.expert, self.model, self.stage, self.dcn_data

    def decoding_shape(self) -> tuple[int, int, int]:
        """Returns the same devices as a grid without stages and slices, as translation needs it."""
        data = self.data * self.stage * self.dcn_data if self.data > 0 else self.data
        return data, self.expert, self.model


@dataclass(slots=True)
class DecodeConfig:
    """Beam search."""

    beam_size: int = option(4, "W, beams; 1 is greedy", at_least(1))
    length_penalty: float = option(1.0, "alpha: scores are divided by length^alpha", at_least(0))
    max_length_factor: float = option(2.0, "most target tokens per source token, plus 10", above(0))
    max_source_length: int = option(
        256, "most subwords translated at once; longer sentences are split", at_least(2)
    )
    split: str = option(
        "long",
        "lines split into sentences: those longer than a row, all, or none (which are cut)",
        one_of("long", "always", "never"),
    )
    no_repeat_ngram: int = option(
        0, "n: no n-gram of subwords occurs twice in a translation; 0 is off", at_least(0)
    )
    no_stutter: int = option(
        0, "N: no phrase of up to N subwords is repeated immediately; 0 is off", at_least(0)
    )
    min_length: int = option(0, "fewest subwords of a translation", at_least(0))
    repetition_penalty: float = option(
        1.0, "above 1, subwords become less probable once they are written", above(0)
    )
    batch_size: int = option(
        0,
        "sentences decoded at once over all devices",
        at_least(1).or_value(0, "32 on a CPU, else 512"),
    )


@dataclass(slots=True)
class InitConfig:
    """How `gshard-train --init_from` fits another model's parameters into a larger one."""

    expert_noise: float = option(
        0.0, "noise of copied experts, in standard deviations of their weights", at_least(0)
    )
    reset_share: float = option(
        0.0, "dense to experts: share of an expert's hidden units that begin at random", RATE
    )
    added_layers: str = option(
        "identity",
        "layers that the other model lacks change nothing at first, or repeat those below",
        one_of("identity", "repeat"),
    )


@dataclass(slots=True)
class Config:
    """One experiment."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)
    decode: DecodeConfig = field(default_factory=DecodeConfig)
    init: InitConfig = field(default_factory=InitConfig)
