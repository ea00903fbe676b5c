"""Which steps are bad: a loss or gradient that is no number, a loss far above those before it."""
# SPDX-License-Identifier: Apache-2.0

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

WINDOW = 128  # steps: what the mean and the deviation reach back to, and how many come first


class Watch(NamedTuple):
    """What is known of the steps before: float32 scalars, part of the training state."""

    count: Any  # good steps, at most `WINDOW`
    mean: Any  # of their loss, nats a token, the last ones weighing most
    variance: Any
    is_halted: Any  # a bad step came and was to stop the run: no step changes anything any more


class Verdict(NamedTuple):
    """On one step. One that is neither was good; after a halt none is."""

    is_not_finite: Any
    is_spike: Any
    is_halted: Any
    loss: Any
    limit: Any  # what a spike is above; infinity while there is none

    @property
    def is_bad(self) -> Any:
        return self.is_not_finite | self.is_spike


def first_watch() -> Watch:
    """Before the first step."""
    return Watch(*jnp.zeros((4,), jnp.float32))


def judge(watch: Watch, loss: jax.Array, grad_norm: jax.Array, spike_sigmas: float) -> Verdict:
    """Judges a step by its loss a token and its gradient's norm; 0 sigmas is no spike ever."""
    is_finite = jnp.isfinite(loss) & jnp.isfinite(grad_norm)
    limit = watch.mean + spike_sigmas * jnp.sqrt(watch.variance)
    knows_enough = (watch.count >= WINDOW) & (spike_sigmas > 0)
    limit = jnp.where(knows_enough, limit, jnp.inf)
    return Verdict(~is_finite, is_finite & (loss > limit), watch.is_halted > 0, loss, limit)


def remember(watch: Watch, verdict: Verdict, halts: bool) -> Watch:
    """Returns the watch after a step: running mean and variance (West 1979), exponential later."""
    count = jnp.minimum(watch.count + 1, WINDOW)
    weight = 1 / count
    off = verdict.loss - watch.mean
    mean = watch.mean + weight * off
    variance = (1 - weight) * (watch.variance + weight * jnp.square(off))
    seen = Watch(count, mean, variance, watch.is_halted)
    is_bad = verdict.is_bad
    kept = jax.tree.map(
        lambda new, old: jnp.where(is_bad | verdict.is_halted, old, new), seen, watch
    )
    if halts:
        kept = kept._replace(is_halted=jnp.maximum(watch.is_halted, is_bad.astype(jnp.float32)))
    return kept
