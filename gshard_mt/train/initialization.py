"""Initialization: a run whose parameters begin as those of another run's checkpoint or export."""
# SPDX-License-Identifier: Apache-2.0

import contextlib
import math
import pathlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from gshard_mt.config.keys import differing_keys, get_value
from gshard_mt.config.records import Config
from gshard_mt.data.tokenizer import Tokenizer, load_tokenizer
from gshard_mt.errors import CheckpointError, ConfigError, DamagedError
from gshard_mt.model.blueprint import Blueprint, abstract_model
from gshard_mt.model.layout import assemble, lay_out
from gshard_mt.model.mapping import map_params
from gshard_mt.partitioning.axes import names, parameter_rules
from gshard_mt.partitioning.mesh import build_mesh
from gshard_mt.partitioning.placement import sharding
from gshard_mt.run.checkpoints import AVERAGE, Checkpoints
from gshard_mt.run.directory import Origin, Run, read_run, saved_steps
from gshard_mt.run.exported import is_export, read_export
from gshard_mt.run.mirror import open_folder, opened_folder
from gshard_mt.storage.bucket_path import open_path
from gshard_mt.train.subwords import map_subwords

_MOST_NAMED = 3  # arrays in an error
_SEED_KEY = 2  # apart from the keys of parameters and of steps


class ParameterMapping(NamedTuple):
    """How the parameters of another run become the first ones of this run."""

    origin: Origin
    like: Any  # shapes and shardings of the other run's parameters
    apply: Callable[[Any, Any], Any]  # (the other run's, new ones) -> the first ones
    lines: list[str]  # that tell the user


def find_origin(init_from: str, begun: Run | None, workdir: pathlib.Path) -> Origin | None:
    """Returns where a run began, or for a new one what `--init_from RUN[@STEP]` means.

    `begun` is the run in `workdir`, if there is one. Once it has a checkpoint it does not need the
    other any more; until then `--init_from` may name another. Raises ConfigError if it began
    elsewhere, CheckpointError if RUN has no such step.
    """
    given, step = split_origin(init_from)
    if begun and (saved_steps(workdir) or not init_from):
        origin = begun.origin
        if init_from and (origin is None or origin.run != _full(given)):
            raise ConfigError(
                f"--init_from: found {init_from}, {workdir} began "
                f"{f'from {origin}' if origin else 'at random'}; accepted: "
                f"{f'{origin}, ' if origin else ''}nothing, or another --workdir"
            )
        return origin
    if not init_from:
        return None
    folder = open_folder(given)
    if is_export(folder):
        model = read_export(folder)
        if step not in ("latest", str(model.step)):
            raise CheckpointError(
                f"--init_from: found {init_from}, an export of step {model.step}; accepted: "
                f"{folder}"
            )
        return Origin(_full(given), model.step, model.checksum())
    with _open(folder) as (_, checkpoints):
        number = step if step == AVERAGE else checkpoints.choose(step)
        checksum = checkpoints.params_checksum(str(number))
    return Origin(_full(given), number, checksum)


def plan_mapping(
    origin: Origin, config: Config, blueprint: Blueprint, tokenizer: Tokenizer
) -> ParameterMapping:
    """Returns how a run begins, without reading an array.

    Raises ConfigError, naming arrays, if the other run's don't fit, or its subwords.
    """
    folder = opened_folder(origin.run)
    model = read_export(folder) if is_export(folder) else None
    old_config = model.config if model else read_run(folder).config
    old_tokenizer = load_tokenizer(folder)
    like = _abstract_params(
        old_config, old_tokenizer.vocab_sizes, blueprint.mesh, config.mesh.shard_parameters
    )
    if model:
        model.check_shapes({tensor.name: tensor.shape for tensor in lay_out(like)})
    pieces, lines = map_subwords(tokenizer, old_tokenizer, str(origin), origin.run)
    key = jax.random.fold_in(jax.random.key(config.train.seed), _SEED_KEY)

    def apply(old: Any, fresh: Any) -> Any:
        return map_params(old, fresh, pieces, config.init, key)

    _check_fit(jax.eval_shape(apply, like, blueprint.params), blueprint, old_config, config, origin)
    rounded = f", an export in {model.dtype}" if model and model.dtype != "float32" else ""
    lines = [f"begins from {origin}{rounded}", *_describe_growth(old_config, config), *lines]
    return ParameterMapping(origin, like, apply, lines)


def initial_params(mapping: ParameterMapping, blueprint: Blueprint, fresh: Any) -> Any:
    """Returns the parameters that a run begins with, on its mesh.

    `fresh` are new ones, for arrays that the other model lacks. Raises CheckpointError if the
    checkpoint is damaged or another one than at the run's first start.
    """
    origin = mapping.origin
    folder = opened_folder(origin.run)
    if is_export(folder):
        model = read_export(folder)
        _check_origin(origin, model.checksum())
        old = assemble(mapping.like, model.read([each.name for each in lay_out(mapping.like)]))
    else:
        with _open(folder) as (_, checkpoints):
            _check_origin(origin, checkpoints.params_checksum(str(origin.step)))
            _, old = checkpoints.restore_params(str(origin.step), mapping.like)
    placed = jax.tree.map(lambda x: x.sharding, blueprint.params)
    return jax.jit(mapping.apply, out_shardings=placed)(old, fresh)


def _check_origin(origin: Origin, checksum: str) -> None:
    if checksum != origin.checksum:
        raise CheckpointError(
            f"{origin}: not the parameters that this run began with; give --init_from again to "
            "begin with these, or with another run's"
        )


def split_origin(init_from: str) -> tuple[str, str]:
    """Returns the folder and the step of `RUN`, `RUN@1000`, `RUN@best` or `RUN@average`."""
    folder, _, step = init_from.rpartition("@")
    if folder and (step.isdigit() or step in ("latest", "best", AVERAGE)):
        return folder, step
    return init_from, "latest"


def _full(name: str) -> str:
    return str(open_path(name).resolve())


@contextlib.contextmanager
def _open(folder: pathlib.Path) -> Iterator[tuple[Run, Checkpoints]]:
    run = read_run(folder)
    checkpoints = Checkpoints(folder, best_by=run.config.train.best_by)
    with contextlib.closing(checkpoints):
        try:
            yield run, checkpoints
        except DamagedError as error:
            raise DamagedError(
                f"{error}; accepted: --init_from {folder}@STEP with a whole checkpoint "
                f"(gshard-verify --workdir {folder} lists them)"
            ) from error


def _abstract_params(
    config: Config, vocab_sizes: tuple[int, int], mesh: Mesh, shard_parameters: bool
) -> Any:
    """Returns the shapes of a model, sharded over the mesh along the axes that it divides."""
    alone = build_mesh(1, 1, devices=[mesh.devices.flat[0]])
    old = abstract_model(config.model, vocab_sizes, alone)

    def place(path: tuple, like: jax.ShapeDtypeStruct, letters: str) -> jax.ShapeDtypeStruct:
        axes = "P" + letters if path[0].key in ("encoder", "decoder") else letters
        rules = parameter_rules(letters, shard_parameters)
        entries = sharding(mesh, axes, len(like.shape), rules).spec
        sizes = [math.prod(mesh.shape[name] for name in names(entry)) for entry in entries]
        kept = [
            None if length % size else entry
            for entry, size, length in zip(entries, sizes, like.shape, strict=True)
        ]
        placed = NamedSharding(mesh, PartitionSpec(*kept))
        return jax.ShapeDtypeStruct(like.shape, like.dtype, sharding=placed)

    return jax.tree.map_with_path(place, old.params, old.letters)


def _describe_growth(old: Config, new: Config) -> list[str]:
    """Returns a line for each size of the model that the other one hadn't."""
    lines = []
    if (had := old.model.num_layers) != (has := new.model.num_layers):
        kind = "change nothing at first" if new.init.added_layers == "identity" else "repeat others"
        lines.append(f"{has - had} layers are added to {had} and {kind}")
    if (had := old.model.moe.num_experts) != (has := new.model.moe.num_experts):
        of_each = "each expert" if had else "every other dense feed-forward"
        lines.append(f"{of_each} becomes {has // max(1, had)} experts")
    return lines


def _check_fit(
    found: Any, blueprint: Blueprint, old: Config, config: Config, origin: Origin
) -> None:
    """Raises ConfigError if mapped parameters aren't those of the model in names and shapes."""
    shapes, expected = (
        {
            jax.tree_util.keystr(path, simple=True, separator="/"): leaf.shape
            for path, leaf in jax.tree.flatten_with_path(tree)[0]
        }
        for tree in (found, blueprint.params)
    )
    unfit = [
        name for name in sorted({*shapes, *expected}) if shapes.get(name) != expected.get(name)
    ]
    if not unfit:
        return
    some = [
        f"{name} {shapes.get(name, 'none')}, not {expected.get(name, 'none')}" for name in unfit
    ]
    more = f" and {len(unfit) - _MOST_NAMED} more" if len(unfit) > _MOST_NAMED else ""
    keys = [key for key in differing_keys(old, config) if key.startswith("model.")]
    own = ", ".join(f"{key}={get_value(old, key)}" for key in keys)
    raise ConfigError(
        f"--init_from: {origin} has other arrays: {'; '.join(some[:_MOST_NAMED])}{more}; accepted: "
        f"its sizes ({own}), more layers, experts in dense layers, a multiple of its experts"
    )
