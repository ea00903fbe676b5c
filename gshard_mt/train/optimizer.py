"""Learning-rate schedules and optimizers; Adafactor per matrix; L2-SP towards a starting point."""
# SPDX-License-Identifier: Apache-2.0

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from gshard_mt.config.records import TrainConfig
from gshard_mt.errors import ConfigError
from gshard_mt.train.globs import find_frozen, find_rate_scales


def learning_rate_schedule(config: TrainConfig) -> optax.Schedule:
    """Step (from 0) -> learning rate, whose peak is `train.learning_rate` times a stage's rate."""
    schedule = _schedule_without_stages(config)
    if all(stage.rate == 1 for stage in config.stages):
        return schedule
    rates = jnp.array([stage.rate for stage in config.stages], jnp.float32)
    borders = jnp.array([stage.until for stage in config.stages[:-1]], jnp.int32)
    return lambda step: schedule(step) * rates[jnp.sum(step >= borders)]


def _schedule_without_stages(config: TrainConfig) -> optax.Schedule:
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


def make_optimizer(config: TrainConfig, letters: Any) -> optax.GradientTransformation:
    """Gradient clipping, then `train.optimizer`; `letters` are the axes of each parameter.

    Frozen parameters have no updates and no state, and don't count for the clipping. Raises
    ConfigError for a glob of `train.freeze` or `train.rate_scales` that matches no parameter.
    """
    is_frozen, scales = find_frozen(config, letters), find_rate_scales(config, letters)
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
    l2_sp = [decay_to_start(schedule, config.l2_sp)] if config.l2_sp else []
    if config.optimizer == "adamw":
        rule = optax.adamw(schedule, b2=0.98, weight_decay=config.weight_decay)
        return optax.chain(*clip, rule, *l2_sp)
    # A.2: factored second moment, no first moment, decay 1 - t^-0.8, updates clipped at 1 and
    # scaled by the parameter's root mean square; all are optax's defaults.
    adafactor = optax.adafactor(weight_decay_rate=config.weight_decay or None)
    adafactor = per_matrix(adafactor, letters)
    return optax.chain(*clip, adafactor, optax.scale_by_schedule(schedule), *l2_sp)


class StartState(NamedTuple):
    """The state of `decay_to_start`."""

    count: Any  # int32: steps done
    start: Any  # a tree like the parameters: what they were at step 0


def decay_to_start(schedule: optax.Schedule, weight: float) -> optax.GradientTransformation:
    """Adds -rate * weight * (parameter - its first value) to updates: L2-SP, Li et al. 2018.

    That is the gradient of weight / 2 times the squared distance, kept out of the optimizer's
    moments and of the clipping like AdamW's weight decay (RecAdam, Chen et al. 2020). In the loss,
    Adam and Adafactor would divide it by the size of the task's gradient. The first values are
    those that `init` is given; they are saved with the state, so that a resumed run has them.
    """

    def init(params):
        # A copy: a step is given parameters and state to overwrite, which can't be one buffer.
        return StartState(jnp.zeros((), jnp.int32), jax.tree.map(jnp.copy, params))

    def update(updates, state, params=None):
        rate = weight * schedule(state.count)
        updates = jax.tree.map(
            lambda change, now, start: change - rate * (now - start), updates, params, state.start
        )
        return updates, StartState(state.count + 1, state.start)

    return optax.GradientTransformation(init, update)


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
