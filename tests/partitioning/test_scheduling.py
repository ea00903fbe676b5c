"""XLA's options for a step: by platform, and only those that XLA has."""
# SPDX-License-Identifier: Apache-2.0

import jax
import pytest

from gshard_mt.partitioning import scheduling
from gshard_mt.partitioning.scheduling import LATENCY_HIDING, compiler_options


@pytest.fixture
def on(monkeypatch):
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    return lambda name: monkeypatch.setattr(scheduling, "platform", lambda: name)


def test_only_a_step_with_something_to_hide_has_options(on):
    assert compiler_options(8, 2) == {}  # on a CPU
    on("gpu")
    assert compiler_options(1, 2) == {}
    assert compiler_options(8, 1) == compiler_options(8, 2) == {LATENCY_HIDING: True}
    on("tpu")
    assert compiler_options(8, 1) == {}
    assert compiler_options(8, 2) == {"xla_tpu_enable_async_all_to_all": "true"}


def test_what_the_user_says_in_xla_flags_stands(on, monkeypatch):
    on("gpu")
    monkeypatch.setenv("XLA_FLAGS", f"--xla_gpu_autotune_level=2 --{LATENCY_HIDING}=false")
    assert compiler_options(8, 2) == {}
    monkeypatch.setenv("XLA_FLAGS", "--xla_gpu_autotune_level=2")
    assert compiler_options(8, 2) == {LATENCY_HIDING: True}


def test_the_options_for_gpus_exist(on):
    """Every compiler of jaxlib knows all of its options; those for TPUs are in test_overlap.py."""
    on("gpu")
    assert jax.jit(lambda x: x + 1, compiler_options=compiler_options(8, 1))(1) == 2
    with pytest.raises(jax.errors.JaxRuntimeError, match="No such compile option"):
        jax.jit(lambda x: x + 1, compiler_options={LATENCY_HIDING + "s": True})(1)
