"""Globs over the names of parameters: which are frozen, and which learn faster or slower."""
# SPDX-License-Identifier: Apache-2.0

import difflib
import fnmatch
import math
from collections.abc import Iterable
from typing import Any

import jax

from gshard_mt.config.records import TrainConfig
from gshard_mt.errors import ConfigError


def find_frozen(config: TrainConfig, params: Any) -> Any:
    """Returns a tree like the parameters that says of each whether `train.freeze` names it.

    Raises ConfigError for a glob that matches none.
    """
    globs = _split(config.freeze)
    _check("train.freeze", globs, params)
    return jax.tree.map_with_path(
        lambda path, _: any(fnmatch.fnmatchcase(_name(path), glob) for glob in globs), params
    )


def find_rate_scales(config: TrainConfig, params: Any) -> Any:
    """Returns a tree like the parameters with the factor of each one's learning rate.

    That is the last one in `train.rate_scales` whose glob matches, else 1. Raises ConfigError for a
    glob that matches none and for what is no factor.
    """
    factors = dict(_parse_factor(each) for each in _split(config.rate_scales))
    _check("train.rate_scales", factors, params)

    def find(path: tuple, _: Any) -> float:
        matching = [factors[glob] for glob in factors if fnmatch.fnmatchcase(_name(path), glob)]
        return matching[-1] if matching else 1.0

    return jax.tree.map_with_path(find, params)


def _parse_factor(text: str) -> tuple[str, float]:
    glob, _, number = text.rpartition("=")
    try:
        factor = float(number)
    except ValueError:
        factor = math.nan
    if not (glob and 0 <= factor < math.inf):
        raise ConfigError(
            f"config.train.rate_scales: found {text!r}, accepted: GLOB=FACTOR, such as */wg_ME=0.1"
        )
    return glob, factor


def _split(text: str) -> list[str]:
    return [each.strip() for each in text.split(",") if each.strip()]


def _name(path: tuple) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _check(key: str, globs: Iterable[str], params: Any) -> None:
    known = [_name(path) for path, _ in jax.tree.flatten_with_path(params)[0]]
    for glob in globs:
        if not any(fnmatch.fnmatchcase(name, glob) for name in known):
            (nearest,) = difflib.get_close_matches(glob, known, n=1, cutoff=0)
            raise ConfigError(
                f"config.{key}: found {glob!r}, accepted: globs that match a parameter, such as "
                f"{nearest}"
            )
