"""Eight simulated CPU devices for every test, chosen before JAX is used for the first time."""
# SPDX-License-Identifier: Apache-2.0

try:
    import jax
except ImportError:  # the data rooms and their tests run without JAX
    pass
else:
    jax.config.update("jax_num_cpu_devices", 8)
