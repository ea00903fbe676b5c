"""All that is to be known of one GPU, the most important first, within a limit of time.

    python -m benchmarks.gpu [--seconds 690] [--only kernels layer ...] [--small]

Prints JSON rows as they are measured; a part that fails has a row with its `error`, a part for
which no time is left one with `skipped`. `--small` runs the same in small sizes, on CPUs with
kernels interpreted: its times mean nothing. No file is needed: the text is made up.
"""
# SPDX-License-Identifier: Apache-2.0

import argparse
import dataclasses
import functools
import json
import pathlib
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import absl.flags
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from benchmarks import moe_layer
from benchmarks.machine import describe_machine
from benchmarks.steps import time_steps
from benchmarks.synthetic import Phrases, write_corpus
from gshard_mt.config.records import (
    CleaningConfig,
    Config,
    DataConfig,
    ModelConfig,
    MoeConfig,
    TrainConfig,
)
from gshard_mt.data.prepare.prepare import prepare
from gshard_mt.data.prepared import Prepared, open_prepared
from gshard_mt.data.tokenizer import load_tokenizer
from gshard_mt.decode.translate import Translator
from gshard_mt.model.attention import Attention, Segments
from gshard_mt.model.blueprint import init_params
from gshard_mt.model.layers import contract, key_stream
from gshard_mt.partitioning.annotate import platform
from gshard_mt.partitioning.mesh import build_mesh
from gshard_mt.routing import triton_product
from gshard_mt.routing.dispatch import DISPATCHES
from gshard_mt.routing.strategies import DROPLESS
from gshard_mt.routing.triton_product import Tile

Rows = Iterator[dict[str, Any]]
_LANGUAGES = ("de", "fr")


class Scale(NamedTuple):
    """How large everything is."""

    experts: tuple[int, ...]
    tokens: int
    model_dim: int
    ffn_dim: int
    layers: int  # of encoder and decoder together
    row_length: int
    attended: tuple[int, ...]  # lengths of rows of which attention alone is timed
    batch_rows: int
    pairs: int
    sentences: int
    repeats: int
    tiles: tuple[Tile, ...]
    dtype: str


FULL = Scale(
    experts=(8, 64, 256),
    tokens=32_768,
    model_dim=1024,
    ffn_dim=4096,
    layers=12,
    row_length=256,
    attended=(1024, 4096, 256),
    batch_rows=128,
    pairs=40_000,
    sentences=1000,
    repeats=7,
    tiles=(
        Tile(128, 128, 32, num_warps=8, num_stages=4),
        Tile(128, 128, 64, num_warps=4),
        Tile(64, 128, 64, num_warps=4),
        Tile(64, 256, 64, num_warps=8),
        Tile(128, 256, 64, num_warps=8),
        Tile(128, 128, 64, num_warps=8, num_stages=4),
    ),
    dtype="bfloat16",
)
SMALL = Scale(
    experts=(2, 4),
    tokens=64,
    model_dim=32,
    ffn_dim=64,
    layers=4,
    row_length=32,
    attended=(512, 32),
    batch_rows=8,
    pairs=600,
    sentences=10,
    repeats=1,
    tiles=(Tile(16, 32, 16, num_warps=4),),
    dtype="float32",
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=690, help="no part begins after these")
    parser.add_argument("--only", nargs="+", metavar="PART", help="parts, such as layer or decode")
    parser.add_argument("--small", action="store_true")
    flags = parser.parse_args()
    absl.flags.FLAGS.mark_as_parsed()
    start, machine = time.monotonic(), describe_machine()
    with tempfile.TemporaryDirectory() as folder:
        for part, fields, rows in parts(SMALL if flags.small else FULL, pathlib.Path(folder)):
            if flags.only and part not in flags.only:
                continue
            spent = time.monotonic() - start
            found = [{"skipped": True}] if spent > flags.seconds else _measure(rows)
            for row in found:
                spent = round(time.monotonic() - start, 1)
                row = {"benchmark": part} | fields | row | {"seconds_so_far": spent}
                print(json.dumps(row | machine), flush=True)


def parts(scale: Scale, folder: pathlib.Path) -> Iterator[tuple[str, dict, Callable[[], Rows]]]:
    """Yields what is measured in order of importance: a name, fields of its rows, its rows."""

    @functools.cache
    def prepared() -> Prepared:
        return _prepare(scale, folder)

    for experts in scale.experts:
        fields = {"experts": experts}
        yield "kernels", fields, functools.partial(_kernel_rows, scale, experts, (None,))
        yield "layer", fields, functools.partial(_layer_rows, scale, experts)
    for experts in (*scale.experts[:2], 0):
        fields = {"experts": experts, "dispatch": "auto"}
        yield "train_step", fields, functools.partial(_step_rows, scale, prepared, fields)
    for experts in (scale.experts[0], 0):
        yield (
            "decode",
            {"experts": experts},
            functools.partial(_decode_rows, scale, prepared, experts),
        )
    for length in scale.attended:
        fields = {"row_length": length}
        yield "attention", fields, functools.partial(_attention_rows, scale, length)
    fields = {"experts": scale.experts[1], "dispatch": DROPLESS}
    yield "train_step", fields, functools.partial(_step_rows, scale, prepared, fields)
    for experts in scale.experts[:2]:
        run = functools.partial(_kernel_rows, scale, experts, scale.tiles)
        yield "tiles", {"experts": experts}, run


def _measure(rows: Callable[[], Rows]) -> Rows:
    """Yields the rows of a part; if it fails, the first line of the error instead of the rest."""
    try:
        yield from rows()
    except Exception as error:  # whatever it is, the other parts are worth their time
        yield {"error": f"{type(error).__name__}: {str(error).splitlines()[0][:300]}"}


def _kernel_rows(scale: Scale, num_experts: int, tiles: tuple[Tile | None, ...]) -> Rows:
    """One product of rows with their expert's matrix, forward and both gradients."""
    num_rows, dtype = scale.tokens * moe_layer.NUM_CHOICES, jnp.dtype(scale.dtype)
    keys = jax.random.split(jax.random.key(0), 2)
    x_RM = jax.random.normal(keys[0], (num_rows, scale.model_dim), dtype)
    w_EMH = jax.random.normal(keys[1], (num_experts, scale.model_dim, scale.ffn_dim), dtype)
    shares = np.random.default_rng(0).dirichlet(np.full(num_experts, 4.0))  # as uneven as gates
    size_E = jnp.asarray(num_rows * shares, jnp.int32)  # a few rows are left over

    def ragged(x_RM, w_EMH):
        y_RH = jax.lax.ragged_dot(x_RM, w_EMH, size_E, preferred_element_type=jnp.float32)
        return y_RH.astype(dtype)

    def kernel(tile: Tile | None, x_RM, w_EMH):
        return triton_product.multiply(x_RM, w_EMH, size_E, tile, platform() == "cpu")

    forms: dict[str, Callable] = {"ragged_dot": ragged} if tiles == (None,) else {}
    for tile in tiles:
        forms["triton" if tile is None else str(tuple(tile))] = functools.partial(kernel, tile)
    for form, function in forms.items():
        try:
            both = moe_layer.both_ways(function, x_RM, w_EMH)
            forward = jax.jit(function).lower(x_RM, w_EMH).compile()
            programs = {"both": both.run, "forward": functools.partial(forward, x_RM, w_EMH)}
            seconds = moe_layer.time_in_turn(programs, scale.repeats)
        except jax.errors.JaxRuntimeError as error:  # too much memory, shared or not
            yield {"form": form, "error": str(error).splitlines()[0][:300]}
            continue
        flops = 2 * num_rows * scale.model_dim * scale.ffn_dim
        yield {
            "form": form,
            "forward_seconds": round(seconds["forward"], 6),
            "forward_tflops_per_second": round(flops / seconds["forward"] / 1e12, 3),
            "seconds": round(seconds["both"], 6),
            "tflops_per_second": round(3 * flops / seconds["both"] / 1e12, 3),
            "temporary_mib": round(both.temporary_bytes / 2**20, 1),
        }


def _layer_rows(scale: Scale, num_experts: int) -> Rows:
    group_size = min(512, scale.tokens)
    sizes = moe_layer.Sizes(
        num_experts, group_size, scale.tokens, scale.model_dim, scale.ffn_dim, scale.dtype
    )
    forms = [*sorted(DISPATCHES, reverse=True), DROPLESS]
    for row in moe_layer.layer_rows(sizes, forms, scale.repeats):
        yield row | {"benchmark": "layer"}


def _attention_rows(scale: Scale, length: int) -> Rows:
    """Attention with its projections over packed rows, forward and all gradients.

    Those of libraries see no borders between sentences, which is the least that it can cost.
    """
    model = _config(scale, 0).model
    sizes = {"M": model.model_dim, "N": model.num_heads, "D": model.head_dim}
    graph, state = nnx.split(Attention(model, sizes, key_stream(jax.random.key(0))))
    num_rows, dtype = max(1, scale.tokens // length), jnp.dtype(scale.dtype)
    x_BTM = jax.random.normal(jax.random.key(1), (num_rows, length, model.model_dim), dtype)
    sentence_BT = jnp.broadcast_to(1 + jnp.arange(length) // scale.row_length, x_BTM.shape[:2])
    segments = Segments(sentence_BT, sentence_BT, is_causal=True)

    def ours(state, x_BTM):
        return nnx.merge(graph, state)(x_BTM, x_BTM, segments, None)

    def of_library(implementation, state, x_BTM):
        layer = nnx.merge(graph, state)
        q, k, v = (
            contract("BTM,MND->BTND", x_BTM, w[...], dtype)
            for w in (layer.wq_MND, layer.wk_MND, layer.wv_MND)
        )
        y_BTND = jax.nn.dot_product_attention(
            q, k, v, is_causal=True, implementation=implementation
        )
        return contract("BTND,NDM->BTM", y_BTND, layer.wo_NDM[...], dtype)

    for form in ("ours", "xla", "cudnn"):
        function = ours if form == "ours" else functools.partial(of_library, form)
        try:
            program = moe_layer.both_ways(function, state, x_BTM)
            seconds = moe_layer.time_in_turn({form: program.run}, scale.repeats)[form]
        except (jax.errors.JaxRuntimeError, RuntimeError) as error:  # too much memory, no cuDNN
            yield {"form": form, "error": str(error).splitlines()[0][:300]}
            continue
        temporary_mib = round(program.temporary_bytes / 2**20, 1)
        yield {"form": form, "seconds": round(seconds, 6), "temporary_mib": temporary_mib}


def _config(scale: Scale, num_experts: int, dispatch: str = "auto") -> Config:
    """A model with experts in every other layer, or a dense one of the same active size."""
    is_dense = num_experts == 0
    moe = MoeConfig(num_experts=num_experts, dispatch=dispatch, group_size=scale.row_length)
    return Config(
        data=_data_config(scale),
        model=ModelConfig(
            num_layers=scale.layers,
            model_dim=scale.model_dim,
            ffn_dim=scale.ffn_dim * 3 // 2 if is_dense else scale.ffn_dim,
            num_heads=max(1, scale.model_dim // 64),
            head_dim=min(64, scale.model_dim),
            dtype=scale.dtype,
            moe=moe,
        ),
        train=TrainConfig(batch_rows=scale.batch_rows),
    )


def _data_config(scale: Scale) -> DataConfig:
    cleaning = CleaningConfig(language=False, script=False, swapped=False, near_duplicates=False)
    vocab_size = 32_000 if scale is FULL else 500
    return DataConfig(
        source_vocab_size=vocab_size,
        target_vocab_size=vocab_size,
        source_length=scale.row_length,
        target_length=scale.row_length,
        cleaning=cleaning,
    )


def _prepare(scale: Scale, folder: pathlib.Path) -> Prepared:
    """Prepares sentences of words that don't exist: as many as vocabularies of 32,000 need."""
    random = np.random.default_rng(0)
    letters = np.array(list("aeioubcdfglmnprst"))
    num_words = scale.pairs
    words = [
        ["".join(random.choice(letters, random.integers(3, 10))) for _ in range(num_words)]
        for _ in range(2)
    ]
    phrases = Phrases(*(tuple(side) for side in words))
    each = scale.pairs // len(_LANGUAGES)
    recipe = write_corpus(
        folder / "text", dict.fromkeys(_LANGUAGES, phrases), [each] * len(_LANGUAGES), 12
    )
    prepare(dataclasses.replace(_data_config(scale), recipe=str(recipe)), folder / "data")
    return open_prepared(folder / "data")


def _step_rows(scale: Scale, prepared: Callable[[], Prepared], fields: dict[str, Any]) -> Rows:
    config = _config(scale, fields["experts"], fields["dispatch"])
    yield time_steps(config, prepared(), 5 * scale.repeats)


def _decode_rows(scale: Scale, prepared: Callable[[], Prepared], num_experts: int) -> Rows:
    """Beam 4 by a model that has learned nothing; a second pass, with compiled programs."""
    mesh = build_mesh(*Config().mesh.decoding_shape())
    tokenizer = load_tokenizer(prepared().directory)
    translator = Translator(_config(scale, num_experts), tokenizer, mesh)
    placed = jax.tree.map(lambda x: x.sharding, translator.blueprint.params)
    init = functools.partial(init_params, translator.blueprint, 0)
    translator.params = jax.jit(init, out_shardings=placed)()
    pair = prepared().language_pairs[0]
    references = prepared().references(pair, "test") + prepared().references(pair, "dev")
    lines = [references[i % len(references)][0] for i in range(scale.sentences)]
    translator.translate(lines)
    start = time.perf_counter()
    translated = translator.translate(lines)
    seconds = time.perf_counter() - start
    tokens = sum(map(len, tokenizer.encode_target(translated)))
    yield {
        "beam": translator.config.decode.beam_size,
        "sentences": len(lines),
        "seconds": round(seconds, 3),
        "sentences_per_second": round(len(lines) / seconds, 1),
        "target_tokens_per_second": round(tokens / seconds, 1),
    }


if __name__ == "__main__":
    main()
