"""One training step and one dev batch, as pure functions of state and batch."""
# SPDX-License-Identifier: Apache-2.0

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from gshard_mt.config.records import TrainConfig
from gshard_mt.data.batches import Batch
from gshard_mt.model.blueprint import Blueprint
from gshard_mt.model.moe import Groups, RoutingSums, Tokens, evaluation_groups, training_groups
from gshard_mt.model.transformer import Transformer
from gshard_mt.partitioning.annotate import num_parts, replicate, shard
from gshard_mt.partitioning.scheduling import compiler_options
from gshard_mt.routing.counters import Counters
from gshard_mt.train.accumulation import add_up, cut_batch, unit_rows
from gshard_mt.train.bad_steps import StepCheck, check_step, update
from gshard_mt.train.loss import PairLoss, Predictions, TokenLoss, cross_entropy, pair_loss
from gshard_mt.train.optimizer import learning_rate_schedule
from gshard_mt.train.staged_forward import forward_in_stages
from gshard_mt.train.state import TrainState, abstract_state


class StepMetrics(NamedTuple):
    """Sums over one batch; rates and means are computed when printed."""

    token_loss: TokenLoss
    aux_loss: jax.Array  # summed over MoE layers
    routing: dict[str, Counters]  # by stack, every sum with a leading axis of its MoE layers
    source_tokens: jax.Array
    grad_norm: jax.Array
    learning_rate: jax.Array
    check: StepCheck


def sides(batch: Batch) -> tuple[Tokens, Tokens]:
    """Returns the source and target tokens of a batch, as encoder and decoder read them."""
    return (
        Tokens(
            batch.source_BL, batch.source_segment_BL, batch.source_position_BL, batch.source_pair_BL
        ),
        Tokens(
            batch.input_BT, batch.target_segment_BT, batch.target_position_BT, batch.target_pair_BT
        ),
    )


def predict(
    model: Transformer, batch: Batch, groups: Groups, key: jax.Array | None, num_micro_batches: int
) -> tuple[Predictions, dict[str, RoutingSums]]:
    """The forward pass: what the softmax needs, and by stack its MoE layers' routing sums.

    On a mesh with stages the batch passes through the pipeline in `num_micro_batches`.
    """
    batch = Batch(*(shard(array, "BL") for array in batch))
    sums = {}
    if num_parts("stage") > 1:
        hidden_BTM = forward_in_stages(model, batch, groups, key, num_micro_batches)
    else:
        source, target = sides(batch)
        encoder_key, decoder_key = (None, None) if key is None else jax.random.split(key)
        memory_BLM, encoder_sums = model.encode(source, groups, encoder_key)
        hidden_BTM, decoder_sums = model.decode(
            memory_BLM, source.segment_BL, target, groups, decoder_key
        )
        stacks = {"encoder": encoder_sums[0], "decoder": decoder_sums[0]}
        sums = {name: stack for name, stack in stacks.items() if stack is not None}
    is_token_BT = batch.target_segment_BT != 0
    return Predictions(hidden_BTM, model.softmax_table(), batch.label_BT, is_token_BT), sums


def make_gradient(blueprint: Blueprint, config: TrainConfig, num_pairs: int = 1) -> Callable:
    """Returns `(params, batch, key) -> (gradient, (TokenLoss, aux_loss, routing))` of a batch.

    With `train.accumulation_steps`, micro-batches pass through the model in sequence. A mean over
    the batch's tokens stays one. A balance loss that is not such a mean (the squared variation of
    noisy_top_k and hierarchical) becomes the mean of the micro-batches' values.
    """
    groups, moe = training_groups(blueprint.config, num_pairs), blueprint.config.moe
    num_micro_batches = config.accumulation_steps
    stored = jax.tree.map(lambda x: x.sharding, blueprint.params)
    smoothing, dtype = config.label_smoothing, jnp.dtype(blueprint.config.dtype)

    def loss(params, batch, key, num_tokens):
        model = blueprint.build(params)
        predictions, sums = predict(model, batch, groups, key, num_micro_batches)
        token_loss = cross_entropy(predictions, smoothing, dtype)
        share = {stack: n / num_tokens[stack] for stack, n in count_tokens(batch).items()}
        aux_losses = [share[name] * jnp.sum(stack.aux_loss) for name, stack in sums.items()]
        aux_loss = sum(aux_losses, jnp.zeros(()))
        total = token_loss.smoothed / num_tokens["decoder"]
        total += moe.aux_loss_weight * aux_loss
        if moe.z_loss_weight:
            z_losses = [share[name] * jnp.sum(stack.z_loss) for name, stack in sums.items()]
            total += moe.z_loss_weight * sum(z_losses)
        counters = {name: stack.counters for name, stack in sums.items()}
        return total, (token_loss, aux_loss, counters)

    def differentiate(params, batch: Batch, key):
        num_tokens = {stack: jnp.maximum(n, 1.0) for stack, n in count_tokens(batch).items()}

        def one(batch, key):
            gradient, sums = jax.grad(loss, has_aux=True)(params, batch, key, num_tokens)
            return jax.lax.with_sharding_constraint(gradient, stored), sums

        if num_micro_batches == 1 or num_parts("stage") > 1:  # a pipeline overlaps them
            return one(batch, key)
        unit = unit_rows(batch, moe.group_size) if moe.num_experts else 1
        return add_up(one, cut_batch(batch, num_micro_batches, unit), key)

    return differentiate


def count_tokens(batch: Batch) -> dict[str, jax.Array]:
    """The real tokens that each stack reads."""
    segments = {"encoder": batch.source_segment_BL, "decoder": batch.target_segment_BT}
    return {stack: jnp.sum(x != 0, dtype=jnp.float32) for stack, x in segments.items()}


def make_train_step(
    blueprint: Blueprint,
    config: TrainConfig,
    optimizer: optax.GradientTransformation,
    num_pairs: int = 1,
) -> Callable:
    """Returns the jitted `(state, batch) -> (state, StepMetrics)`; the old state is donated.

    Randomness is a function of `train.seed` and the step, so a restart draws the same numbers.
    Routing is counted for each of `num_pairs` language pairs. A bad step changes nothing but the
    number of steps; with `bad_steps=stop`, neither do the steps after it.
    """
    schedule = learning_rate_schedule(config)
    differentiate = make_gradient(blueprint, config, num_pairs)

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, StepMetrics]:
        run_key = jax.random.fold_in(jax.random.key(config.seed), 1)
        key = jax.random.fold_in(run_key, state.step)
        gradient, (token_loss, aux_loss, routing) = differentiate(state.params, batch, key)
        with jax.named_scope("optimizer"):
            updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
            params = optax.apply_updates(state.params, updates)
        loss = token_loss.smoothed / jnp.maximum(token_loss.num_tokens, 1.0)
        grad_norm = optax.tree.norm(gradient)
        check = check_step(state.loss_statistics, loss, grad_norm, config.spike_sigmas)
        is_good = ~(check.is_bad | check.is_halted)
        with jax.named_scope("optimizer"):
            params, opt_state = jax.tree.map(
                lambda new, old: jnp.where(is_good, new, old),
                (params, opt_state),
                (state.params, state.opt_state),
            )
        metrics = StepMetrics(
            token_loss,
            aux_loss,
            jax.tree.map(lambda sums: jnp.where(is_good, sums, 0), routing),
            jnp.sum(batch.source_segment_BL != 0),
            grad_norm,
            jnp.asarray(schedule(state.step)),
            check,
        )
        statistics = update(state.loss_statistics, check, config.bad_steps == "stop")
        return TrainState(state.step + 1, params, opt_state, statistics), metrics

    # If XLA chose the shardings of the results, the second step could compile again, and a process
    # could not read counts that others hold.
    like = abstract_state(blueprint, optimizer)
    placed = jax.tree.map(lambda x: x.sharding, like)
    return jax.jit(
        step,
        donate_argnums=0,
        out_shardings=(placed, like.step.sharding),
        compiler_options=compiler_options(
            blueprint.mesh.size, blueprint.config.moe.all_to_all_chunks
        ),
    )


def make_dev_step(blueprint: Blueprint, config: TrainConfig, num_pairs: int = 1) -> Callable:
    """Returns the jitted `(params, batch) -> PairLoss`, without dropout or random choices."""
    groups, dtype = evaluation_groups(blueprint.config), jnp.dtype(blueprint.config.dtype)

    def step(params, batch: Batch) -> PairLoss:
        model = blueprint.build(params)
        predictions, _ = predict(model, batch, groups, None, config.accumulation_steps)
        found = pair_loss(predictions, batch.target_pair_BT, num_pairs, dtype)
        return PairLoss(*map(replicate, found))  # every process reads it

    return jax.jit(step)
