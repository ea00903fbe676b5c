"""Loading: a checkpoint of a run, or an exported model, as a translator."""
# SPDX-License-Identifier: Apache-2.0

import functools
import math
import pathlib

import jax
from jax.sharding import Mesh

from gshard_mt.config.records import Config, MeshConfig
from gshard_mt.data.tokenizer import load_tokenizer
from gshard_mt.decode.translate import Translator
from gshard_mt.errors import CheckpointError, ConfigError
from gshard_mt.model.blueprint import abstract_model
from gshard_mt.model.layout import assemble, lay_out
from gshard_mt.model.pruning import prune_params
from gshard_mt.model.quantized import has_fast_integers
from gshard_mt.partitioning.hosts import check_agreement
from gshard_mt.partitioning.mesh import build_mesh
from gshard_mt.run.checkpoints import AVERAGE, Checkpoints
from gshard_mt.run.exported import INT8, is_export, read_export
from gshard_mt.run.pruning import Pruning, with_experts


def load_translator(
    folder: pathlib.Path, config: Config, step: str, pruning: Pruning | None = None
) -> Translator:
    """Loads a step of a run: `latest`, `best`, a number, or the `average` of all kept steps.

    An exported model has only one step. With a pruning, the run's parameters lose the experts that
    are not kept; `config` is that of the run all the same. All devices of JAX are used, so several
    processes call it together.
    Raises CheckpointError, ConfigError or DataError.
    """
    smaller = with_experts(config, pruning.num_kept) if pruning else config
    mesh = _decoding_mesh(smaller)
    if is_export(folder):
        return _load_export(folder, config, step, mesh)
    checkpoints = Checkpoints(folder, best_by=config.train.best_by)
    checkpoints.choose("latest" if step == AVERAGE else step)  # raises before anything is computed
    # A run that is still training may save or remove one while several processes look.
    check_agreement({str(checkpoints.directory): str(checkpoints.steps())})
    translator = Translator(smaller, load_tokenizer(folder), mesh)
    like = translator.blueprint.params
    if pruning:
        whole = abstract_model(config.model, translator.tokenizer.vocab_sizes, mesh).params
        translator.step, params = checkpoints.restore_params(step, whole)
        placed = jax.tree.map(lambda x: x.sharding, like)
        prune = functools.partial(prune_params, kept=pruning.kept)
        translator.params = jax.jit(prune, out_shardings=placed)(params)
    else:
        translator.step, translator.params = checkpoints.restore_params(step, like)
    is_average = step == AVERAGE
    translator.name = f"{AVERAGE}-{translator.step}" if is_average else str(translator.step)
    return translator


def _decoding_mesh(config: Config) -> Mesh:
    """Returns the config's grid, or where other devices are, that of a config without one.

    If the expert axis doesn't divide the experts, it becomes shorter.
    """
    try:
        mesh = build_mesh(*config.mesh.decoding_shape())
    except ConfigError:  # it doesn't have as many devices as there are
        mesh = build_mesh(*MeshConfig().decoding_shape())
    data, expert, model = (mesh.shape[name] for name in ("data", "expert", "model"))
    fitting = math.gcd(expert, config.model.moe.num_experts)  # that of a dense model is `expert`
    return mesh if fitting == expert else build_mesh(data * expert // fitting, fitting, model)


def _load_export(folder: pathlib.Path, config: Config, step: str, mesh: Mesh) -> Translator:
    model = read_export(folder)
    if step not in ("latest", str(model.step)):
        raise CheckpointError(
            f"--step: found {step}, accepted: latest, or {model.step}, the only step in {folder}"
        )
    is_cpu = mesh.devices.flat[0].platform == "cpu"
    quantized = model.dtype == INT8 and is_cpu and has_fast_integers()
    tokenizer = load_tokenizer(folder)
    whole = abstract_model(config.model, tokenizer.vocab_sizes, mesh).params
    model.check_shapes({tensor.name: tensor.shape for tensor in lay_out(whole)})
    translator = Translator(config, tokenizer, mesh, quantized)
    translator.step, translator.name = model.step, str(model.step)
    like = translator.blueprint.params
    names = [tensor.name for tensor in lay_out(like)]
    translator.params = assemble(like, model.read_stored(names) if quantized else model.read(names))
    return translator
