"""Learning-rate schedules and optimizers; Adafactor's statistics are kept per matrix."""
# SPDX-License-Identifier: Apache-2.0

import dataclasses
import difflib
import fnmatch
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gshard_mt.config.records import TrainConfig
from gshard_mt.errors import ConfigError


def learning_rate_schedule(config: TrainConfig) -> optax.Schedule:
    """Step (from 0) -> learning rate, whose peak is `train.learning_rate`."""
    peak, warmup = config.learning_rate, max(config.warmup_steps, 1)
    rest = max(config.num_steps - warmup, 1)
    after = {
        "constant": optax.constant_schedule(peak),
        "linear": optax.linear_schedule(peak, 0.0, rest),
        "cosine": optax.cosine_decay_schedule(peak, rest),
        "inverse_sqrt": lambda step: peak * (warmup / (jnp.maximum(step, 0) + warmup)) ** 0.5,
    }
    if config.schedule == "paper":  # A.2: constant, then 1/sqrt(step); no warmup
        return optax.join_schedules(
            [optax.constant_schedule(peak), after["inverse_sqrt"]], [warmup]
        )
    rise = optax.linear_schedule(peak / warmup, peak, warmup)
    return optax.join_schedules([rise, after[config.schedule]], [warmup])


def describe_change(config: TrainConfig, old_steps: int, start: int) -> str:
    """Returns what happens to the rate of a run of `old_steps` that is resumed after `start`."""
    old = dataclasses.replace(config, num_steps=old_steps)
    before, now = (float(np.asarray(learning_rate_schedule(each)(start))) for each in (old, config))
    text = f"{config.num_steps:,} steps instead of {old_steps:,}: the rate goes on at {now:.3g}"
    if math.isclose(before, now, rel_tol=1e-6, abs_tol=1e-12):
        return text
    return (
        f"{text}, which {config.schedule} had brought to {before:.3g}; --init_from in another "
        "--workdir begins a schedule of its own"
    )


def make_optimizer(config: TrainConfig, letters: Any) -> optax.GradientTransformation:
    """Gradient clipping, then `train.optimizer`; `letters` are the axes of each parameter.

    Frozen parameters have no updates and no state, and don't count for the clipping. Raises
    ConfigError for a glob of `train.freeze` or `train.rate_scales` that matches no parameter.
    """
    is_frozen, scales = _frozen(config, letters), _rate_scales(config, letters)
    if all(jax.tree.leaves(is_frozen)):
        raise ConfigError(f"config.train.freeze: found {config.freeze}, accepted: not all")
    if not any(jax.tree.leaves(is_frozen)):
        rule = _make_rule(config, letters)
    else:
        # optax shows a rule only the parameters that are its own.
        own = jax.tree.map(lambda axes, no: optax.MaskedNode() if no else axes, letters, is_frozen)
        rules: dict[Any, optax.GradientTransformation] = {
            False: _make_rule(config, own),
            True: optax.set_to_zero(),
        }
        rule = optax.partition(rules, is_frozen)
    if not config.rate_scales:
        return rule
    scale = optax.stateless(lambda updates, _: jax.tree.map(jnp.multiply, updates, scales))
    return optax.chain(rule, scale)


def _make_rule(config: TrainConfig, letters: Any) -> optax.GradientTransformation:
    schedule = learning_rate_schedule(config)
    clip = [optax.clip_by_global_norm(config.max_grad_norm)] if config.max_grad_norm else []
    if config.optimizer == "adamw":
        rule = optax.adamw(schedule, b2=0.98, weight_decay=config.weight_decay)
        return optax.chain(*clip, rule)
    # A.2: factored second moment, no first moment, decay 1 - t^-0.8, updates clipped at 1 and
    # scaled by the parameter's root mean square; all are optax's defaults.
    adafactor = optax.adafactor(weight_decay_rate=config.weight_decay or None)
    return optax.chain(*clip, per_matrix(adafactor, letters), optax.scale_by_schedule(schedule))


def _frozen(config: TrainConfig, letters: Any) -> Any:
    """Returns for each parameter whether `train.freeze` has a glob that matches its name."""
    globs = _split(config.freeze)
    _check_globs("train.freeze", globs, letters)
    return jax.tree.map_with_path(lambda path, _: _matches(path, globs), letters)


def _rate_scales(config: TrainConfig, letters: Any) -> Any:
    """Returns the factor of each parameter: the last one in `train.rate_scales` that matches."""
    scales = {}
    for each in _split(config.rate_scales):
        glob, _, factor = each.rpartition("=")
        try:
            scales[glob] = float(factor)
        except ValueError:
            scales[glob] = -1.0
        if not (glob and 0 <= scales[glob] < math.inf):
            raise ConfigError(
                f"config.train.rate_scales: found {each!r}, accepted: GLOB=FACTOR, such as "
                "*/wg_ME=0.1"
            )
    _check_globs("train.rate_scales", list(scales), letters)

    def scale(path: tuple, _: Any) -> float:
        return [1.0, *(scales[glob] for glob in scales if _matches(path, [glob]))][-1]

    return jax.tree.map_with_path(scale, letters)


def _split(text: str) -> list[str]:
    return [each.strip() for each in text.split(",") if each.strip()]


def _matches(path: tuple, globs: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(_name(path), glob) for glob in globs)


def _name(path: tuple) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _check_globs(key: str, globs: Sequence[str], letters: Any) -> None:
    known = [_name(path) for path, _ in jax.tree.flatten_with_path(letters)[0]]
    for glob in globs:
        if not any(fnmatch.fnmatchcase(name, glob) for name in known):
            (nearest,) = difflib.get_close_matches(glob, known, n=1, cutoff=0)
            raise ConfigError(
                f"config.{key}: found {glob!r}, accepted: globs that match a parameter, such as "
                f"{nearest}"
            )


def per_matrix(rule: optax.GradientTransformation, letters: Any) -> optax.GradientTransformation:
    """Applies `rule` separately to every layer and every expert of a stacked parameter.

    Adafactor factors over the two largest axes and takes root mean squares of whole arrays. On
    [P, E, M, H] that would mix experts and layers, and need a reduction across devices.
    """

    def batched(function, array, array_letters):
        num_batch_axes = array.ndim - len(array_letters.removeprefix("E"))
        for _ in range(num_batch_axes):
            function = jax.vmap(function)
        return function

    def init(params):
        return jax.tree.map(lambda p, axes: batched(rule.init, p, axes)(p), params, letters)

    def update(updates, state, params=None):
        gradients, treedef = jax.tree.flatten(updates)
        rows = zip(gradients, *map(treedef.flatten_up_to, (state, params, letters)), strict=True)
        both = [batched(rule.update, p, axes)(g, s, p) for g, s, p, axes in rows]
        new_updates, new_states = zip(*both, strict=True)
        return treedef.unflatten(new_updates), treedef.unflatten(new_states)

    return optax.GradientTransformation(init, update)
