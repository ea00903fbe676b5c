"""Experiments: a TOML file's runs, each a config and what it overrides, refused as a whole."""
# SPDX-License-Identifier: Apache-2.0

import pathlib
import re
import runpy
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from gshard_mt.config import records as configs
from gshard_mt.config.records import Config
from gshard_mt.errors import ConfigError, suggest
from gshard_mt.model.moe_checks import check_moe

SPLITS = ("dev", "test")
_TRUE_OR_FALSE = {"true": True, "false": False}


class Planned(NamedTuple):
    """A run of an experiment; its directory is named after it."""

    name: str
    config: pathlib.Path
    override: Mapping[str, str]  # by key, as flags have them
    data: str  # a folder of its own in --data_dir, prepared as the run asks; none: --data_dir


class Experiment(NamedTuple):
    runs: tuple[Planned, ...]
    split: str


def read_experiment(path: pathlib.Path, extra: Mapping[str, str]) -> Experiment:
    """Reads an experiment; `extra` overrides come last. Raises ConfigError for what can't be."""
    try:
        record = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: can't be read ({error.strerror})") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: not TOML ({error})") from None
    _refuse_unknown(path, record, ("run", "split", "override"))
    split = record.get("split", "dev")
    if split not in SPLITS:
        raise ConfigError(f"{path}: split: found {split!r}, accepted: {', '.join(SPLITS)}")
    entries = record.get("run")
    if not isinstance(entries, list) or not entries:
        raise ConfigError(f"{path}: no run; accepted: [[run]] with name and config")
    for_all = _read_override(path, record)
    runs = tuple(_read_run(path, entry, for_all, extra) for entry in entries)
    names = [run.name for run in runs]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ConfigError(f"{path}: run {twice[0]}: is there twice; accepted: names that differ")
    return Experiment(runs, split)


def _read_run(path: pathlib.Path, entry: Any, for_all: Mapping, extra: Mapping) -> Planned:
    if not isinstance(entry, dict):
        raise ConfigError(f"{path}: run: found {entry!r}, accepted: [[run]] with name and config")
    name = _folder(f"{path}: run: found name", entry.get("name"))
    if name in ("comparison", "logs"):
        raise ConfigError(f"{path}: run {name}: that folder is taken; accepted: another name")
    _refuse_unknown(path, entry, ("name", "config", "override", "data"), f"run {name}: ")
    data = _folder(f"{path}: run {name}: found data", entry["data"]) if "data" in entry else ""
    config = entry.get("config")
    if not isinstance(config, str) or not (path.parent / config).is_file():
        raise ConfigError(
            f"{path}: run {name}: found config {config!r}, accepted: a config file, relative to "
            f"{path.parent}"
        )
    own = _read_override(path, entry, f"run {name}: ")
    return Planned(name, path.parent / config, {**for_all, **own, **extra}, data)


def _folder(where: str, name: Any) -> str:
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w.,=+-]*", name):
        raise ConfigError(f"{where} {name!r}, accepted: letters, digits and .,_=+-")
    return name


def _refuse_unknown(path: pathlib.Path, record: Mapping, known: Sequence[str], where="") -> None:
    for key in record:
        if key not in known:
            raise ConfigError(f"{path}: {where}{key}: unknown key{suggest(key, known)}")


def _read_override(path: pathlib.Path, record: Mapping, where: str = "") -> dict[str, str]:
    override = record.get("override", {})
    if not isinstance(override, dict):
        raise ConfigError(f"{path}: {where}override: found {override!r}, accepted: a table")
    for key, value in override.items():
        if isinstance(value, (dict, list)):
            hint = f'accepted: a value, and "{key}.KEY" in quotes'
            raise ConfigError(f"{path}: {where}override: found {key} = {value!r}, {hint}")
        _check_key(f"{path}: {where}", key)
    return {
        key: str(value).lower() if isinstance(value, bool) else str(value)
        for key, value in override.items()
    }


def _check_key(where: str, key: str) -> None:
    try:
        configs.refuse_unknown_key(key)
    except ConfigError as error:
        raise ConfigError(f"{where}{error}") from None


def read_flags(values: Sequence[str]) -> dict[str, str]:
    """Returns `--override KEY=VALUE` as a mapping. Raises ConfigError for another form."""
    found = {}
    for value in values:
        key, equals, text = value.partition("=")
        if not equals:
            raise ConfigError(f"--override: found {value!r}, accepted: KEY=VALUE")
        _check_key("--override: ", key)
        found[key] = text
    return found


def make_config(run: Planned) -> Config:
    """Returns what gshard-train will make of a run. Raises ConfigError, which names the run."""
    config = runpy.run_path(str(run.config))["get_config"]()
    kinds = configs.known_keys()
    try:
        for key, text in run.override.items():
            section, _, name = key.rpartition(".")
            setattr(configs.section_of(config, section), name, _value(key, kinds[key], text))
        configs.check(config)
        if config.model.moe.num_experts:
            check_moe(config.model)
        if config.train.stop_after:
            raise ConfigError(
                f"config.train.stop_after: found {config.train.stop_after}, accepted: 0, for the "
                "runs of an experiment are compared after as many steps as they ask for"
            )
    except ConfigError as error:
        raise ConfigError(f"run {run.name}: {error}") from None
    return config


def _value(key: str, kind: type, text: str) -> Any:
    try:
        return _TRUE_OR_FALSE[text.lower()] if kind is bool else kind(text)
    except (KeyError, ValueError):
        accepted = configs.describe_type(kind)
        raise ConfigError(f"config.{key}: found {text!r}, accepted: {accepted}") from None
