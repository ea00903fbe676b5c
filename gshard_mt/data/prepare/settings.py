"""Settings: the data section of a run's config, as its prepared data were made."""
# SPDX-License-Identifier: Apache-2.0

import os
import pathlib
from collections.abc import Callable, Collection
from typing import Any

from gshard_mt.config.keys import (
    KEYS,
    PATH_KEYS,
    ROW_LENGTHS,
    get_value,
    is_of_prepared_data,
    set_value,
)
from gshard_mt.config.records import Config
from gshard_mt.data.corpora.recipe import load_recipe
from gshard_mt.data.manifest import NAME
from gshard_mt.data.prepared import Prepared
from gshard_mt.data.tokenizer import load_tokenizer
from gshard_mt.errors import ConfigError, UserError
from gshard_mt.storage.bucket_path import open_path

# Accepted as gshard-prepare-data accepts them for finished data: text does not depend on them.
_WITHOUT_EFFECT = ("data.max_drop_share", "data.num_workers")
# What a manifest's identity has instead of paths.
_CONTENT: dict[str, Callable[[pathlib.Path], str]] = {
    "data.recipe": lambda path: load_recipe(path).fingerprint(),
    "data.tokenizer": lambda path: load_tokenizer(path).hash,
    "data.extend_tokenizer": lambda path: load_tokenizer(path).hash,
}


def settle_data(
    config: Config, given: Collection[str], prepared: Prepared, begun: Config | None
) -> None:
    """Sets the keys of `config` that say how its data were prepared to what the manifest says.

    Raises ConfigError if a key of the command line, one of `given`, says something else. A run that
    has `begun` keeps its rows, which may be longer than the sentences of its data.
    """
    for key in filter(is_of_prepared_data, KEYS):
        value = _value_in(prepared.manifest, key)
        if begun and key in ROW_LENGTHS:
            value = max(value, get_value(begun, key))
        if key in given and key not in _WITHOUT_EFFECT:
            found = get_value(config, key)
            if not _is_same(key, found, value, prepared.manifest):
                raise ConfigError(
                    f"config.{key}: found {found!r}, {prepared.directory / NAME} has {value!r}; "
                    "accepted: nothing (a run takes it from its data), or data prepared with it"
                )
        set_value(config, key, value)


def _value_in(manifest: dict[str, Any], key: str) -> Any:
    """Returns the value of a key that data were prepared with; older versions lack some."""
    value: Any = manifest["config"]
    for name in key.split(".")[1:]:
        value = value.get(name, KEYS[key].default) if isinstance(value, dict) else value
    return value


def _is_same(key: str, found: Any, recorded: Any, manifest: dict[str, Any]) -> bool:
    """Tells whether a value is the recorded one, or a path of the same file or of equal content."""
    if key not in PATH_KEYS or not (found and recorded):
        return found == recorded
    if os.path.abspath(found) == os.path.abspath(recorded):
        return True
    try:
        content = _CONTENT[key](open_path(found)) if key in _CONTENT else None
    except UserError:  # it can't be read
        return False
    return content is not None and content == manifest.get("identity", {}).get(key[len("data.") :])
