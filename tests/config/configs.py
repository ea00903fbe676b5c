"""Configs that tests change by key."""
# SPDX-License-Identifier: Apache-2.0

from gshard_mt.config.keys import set_value
from gshard_mt.config.records import Config


def changed(**values) -> Config:
    """Returns the default config with `section__key=value` set."""
    config = Config()
    for name, value in values.items():
        set_value(config, name.replace("__", "."), value)
    return config
