"""The dotted keys of a config: what each one is, and its value as text and as JSON."""
# SPDX-License-Identifier: Apache-2.0

import dataclasses
import functools
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from gshard_mt.config.options import PATH, PATHS, Accepted
from gshard_mt.config.records import Config
from gshard_mt.config.stages import read_stages
from gshard_mt.errors import ConfigError, suggest

# Old key -> new key. Old ones are refused in configs and overrides, translated in saved runs.
RENAMED = {"model.expert_dropout_rate": "model.ffn_dropout_rate"}

TYPE_WORDS = {
    int: "an integer",
    float: "a number",
    bool: "true or false",
    str: "text",
    tuple: "a tuple",
}
_TRUE_OR_FALSE = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}
_UNKNOWN_ATTRIBUTE = re.compile(
    r"'(\w+)' object has no attribute '(\w+)'"
    r"|(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'"
)


class Key(NamedTuple):
    """What a record declares about one key."""

    type: Any
    default: Any
    meaning: str
    accepted: Accepted


def _sections(record: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for field in dataclasses.fields(record):
        if dataclasses.is_dataclass(field.type):
            yield prefix + field.name, field.type
            yield from _sections(field.type, f"{prefix}{field.name}.")


SECTIONS: dict[str, Any] = dict(_sections(Config))  # data, data.cleaning, ... -> record
KEYS: dict[str, Key] = {
    f"{section}.{field.name}": Key(field.type, field.default, **field.metadata)
    for section, record in SECTIONS.items()
    for field in dataclasses.fields(record)
    if not dataclasses.is_dataclass(field.type)
}
PATH_KEYS = frozenset(name for name, key in KEYS.items() if key.accepted in (PATH, PATHS))
# Keys of `data` that training reads; the others say how the data were prepared.
_DATA_KEYS_OF_TRAINING = ("data.temperature", "data.seed", "data.augmentation.")
ROW_LENGTHS = ("data.source_length", "data.target_length")


def is_of_prepared_data(key: str) -> bool:
    """Tells whether a key's value in a run is that of its prepared data, whatever a config says."""
    return key.startswith("data.") and not key.startswith(_DATA_KEYS_OF_TRAINING)


def get_value(config: Config, key: str) -> Any:
    """Returns the value of a dotted key, or the record of a section."""
    return functools.reduce(getattr, key.split("."), config)


def set_value(config: Config, key: str, value: Any) -> None:
    """Sets the value of a dotted key."""
    section, _, name = key.rpartition(".")
    setattr(get_value(config, section), name, value)


def items(config: Config) -> Iterator[tuple[str, Any]]:
    """Yields every dotted key with its value, in the order of the fields."""
    return ((key, get_value(config, key)) for key in KEYS)


def differing_keys(first: Config, second: Config) -> list[str]:
    """Returns the dotted keys at which two configs differ, in the order of the fields."""
    return [key for key, value in items(first) if value != get_value(second, key)]


def refuse_unknown_key(key: str) -> None:
    """Raises ConfigError with the nearest known key unless the dotted key is a known one."""
    if key in KEYS:
        return
    if key in RENAMED:
        raise ConfigError(f"config.{key}: renamed to {RENAMED[key]}")
    if key in SECTIONS:
        first = next(known for known in KEYS if known.startswith(f"{key}."))
        raise ConfigError(f"config.{key}: a section; accepted: one of its keys, such as {first}")
    section, _, name = key.rpartition(".")
    elsewhere = [known for known in KEYS if known.endswith(f".{name}")]
    names = [known.rpartition(".")[2] for known in KEYS if known.rpartition(".")[0] == section]
    near = suggest(name, names) if names else suggest(section or name, SECTIONS)
    near = f"; did you mean {elsewhere[0]}?" if elsewhere else near
    raise ConfigError(f"config.{key}: unknown key{near}")


def refuse_unknown_attribute(message: str) -> None:
    """Raises ConfigError if an exception's message is about an attribute that a record lacks."""
    if match := _UNKNOWN_ATTRIBUTE.search(message):
        record, name = match[1] or match[3], match[2] or match[4]
        names = {kind.__name__: f"{section}." for section, kind in SECTIONS.items()}
        if record in names or record == Config.__name__:
            refuse_unknown_key(f"{names.get(record, '')}{name}")


def parse_value(key: str, text: str | None) -> Any:
    """Returns the value that an override gives as text. Raises ConfigError."""
    refuse_unknown_key(key)
    kind = KEYS[key].type
    if kind is tuple:
        raise ConfigError(f"config.{key}: found on the command line; set it in the config file")
    try:
        if text is None:
            raise ValueError("no value follows")
        if kind is int:
            return _read_integer(text)
        return _TRUE_OR_FALSE[text.lower()] if kind is bool else kind(text)
    except (KeyError, ValueError):
        accepted = TYPE_WORDS[kind]
        raise ConfigError(f"config.{key}: found {text!r}, accepted: {accepted}") from None


def _read_integer(text: str) -> int:
    """Returns 1000 for `1000` and `1e3`. Raises ValueError."""
    is_power = "e" in text.lower() and float(text).is_integer()
    return int(float(text)) if is_power else int(text)


def check_values(config: Config) -> None:
    """Raises ConfigError at the first value that its key does not accept, whatever the others."""
    for section, record in SECTIONS.items():
        if not isinstance(found := get_value(config, section), record):
            accepted = f"a {record.__name__}"
            raise ConfigError(f"config.{section}: found {found!r}, accepted: {accepted}")
    for name, key in KEYS.items():
        value = get_value(config, name)
        is_number = type(value) in (int, float)
        if not (is_number if key.type is float else type(value) is key.type):
            accepted = TYPE_WORDS[key.type]
        elif not key.accepted.test(value):
            accepted = key.accepted.words
        else:
            continue
        raise ConfigError(f"config.{name}: found {value!r}, accepted: {accepted}")


def to_json(config: Config) -> dict[str, dict[str, Any]]:
    """Returns the config as plain values, one object per section, as `config.json` stores it."""
    return dataclasses.asdict(config)


def from_json(values: Any) -> Config:
    """Returns the config written by `to_json`, also by older versions; a missing key is default.

    Raises ConfigError for unknown keys and for values that their keys do not accept.
    """
    config = Config()
    _fill(config, values, "")
    check_values(config)
    return config


def _fill(config: Config, values: Any, prefix: str) -> None:
    if not isinstance(values, dict):
        where = f"config.{prefix}".rstrip(".")
        raise ConfigError(f"{where}: found {values!r}, accepted: an object of keys")
    for name, value in values.items():
        key = RENAMED.get(f"{prefix}{name}", f"{prefix}{name}")
        if key in SECTIONS:
            _fill(config, value, f"{key}.")
        else:
            refuse_unknown_key(key)
            set_value(config, key, read_stages(value) if key == "train.stages" else value)
