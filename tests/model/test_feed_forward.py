"""The dense feed-forward against its formula."""
# SPDX-License-Identifier: Apache-2.0

import jax
import jax.numpy as jnp
import numpy as np

from gshard_mt.config.records import ModelConfig
from gshard_mt.model.feed_forward import FeedForward
from gshard_mt.model.layers import key_stream


def test_the_feed_forward_is_relu_between_two_products_for_every_token_alike():
    layer = FeedForward(
        ModelConfig(ffn_dropout_rate=0.5), {"M": 6, "H": 9}, key_stream(jax.random.key(0))
    )
    x_BLM = np.random.default_rng(0).normal(size=(2, 5, 6)).astype(np.float32)
    y_BLM = layer(jnp.asarray(x_BLM), None)
    expected_BLM = np.maximum(x_BLM @ layer.wi_MH[...], 0) @ layer.wo_HM[...]
    np.testing.assert_allclose(y_BLM, expected_BLM, rtol=1e-5, atol=1e-6)
    dropped_BLM = layer(jnp.asarray(x_BLM), jax.random.key(0))
    assert np.abs(dropped_BLM - y_BLM).max() > 0.1
