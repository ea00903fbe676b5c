"""Reads an experiment: a TOML file of runs, each a config file and its overrides."""
# SPDX-License-Identifier: Apache-2.0

import pathlib
import re
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from gshard_mt.config.checks import check
from gshard_mt.config.keys import parse_value, set_value
from gshard_mt.config.load import load_config
from gshard_mt.config.records import Config
from gshard_mt.errors import ConfigError, suggest

SPLITS = ("dev", "test")


class Planned(NamedTuple):
    """A run of an experiment; its run directory has its name."""

    name: str
    config: str  # path of a config file, perhaps with an argument after a colon
    override: Mapping[str, str]  # key -> value as on a command line
    data: str  # folder in --data_dir that is prepared for this run; empty: --data_dir itself


class Experiment(NamedTuple):
    runs: tuple[Planned, ...]
    split: str


def read_experiment(path: pathlib.Path, extra: Mapping[str, str]) -> Experiment:
    """Reads an experiment; `extra` overrides are applied last. Raises ConfigError."""
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
        raise ConfigError(f"{path}: run {twice[0]}: found twice; accepted: different names")
    return Experiment(runs, split)


def _read_run(path: pathlib.Path, entry: Any, for_all: Mapping, extra: Mapping) -> Planned:
    if not isinstance(entry, dict):
        raise ConfigError(f"{path}: run: found {entry!r}, accepted: [[run]] with name and config")
    name = _folder(f"{path}: run: found name", entry.get("name"))
    if name in ("comparison", "logs"):
        raise ConfigError(f"{path}: run {name}: a reserved folder; accepted: another name")
    _refuse_unknown(path, entry, ("name", "config", "override", "data"), f"run {name}: ")
    data = _folder(f"{path}: run {name}: found data", entry["data"]) if "data" in entry else ""
    config = entry.get("config")
    if not isinstance(config, str) or not (path.parent / config.partition(":")[0]).is_file():
        raise ConfigError(
            f"{path}: run {name}: found config {config!r}, accepted: a config file, relative to "
            f"{path.parent}"
        )
    own = _read_override(path, entry, f"run {name}: ")
    return Planned(name, str(path.parent / config), {**for_all, **own, **extra}, data)


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
    texts = {
        key: str(value).lower() if isinstance(value, bool) else str(value)
        for key, value in override.items()
    }
    return _checked(texts, f"{path}: {where}")


def _checked(override: dict[str, str], where: str) -> dict[str, str]:
    """Returns an override whose keys are known and whose values have their types."""
    try:
        for key, text in override.items():
            parse_value(key, text)
    except ConfigError as error:
        raise ConfigError(f"{where}{error}") from None
    return override


def read_flags(values: Sequence[str]) -> dict[str, str]:
    """Returns `--override KEY=VALUE` as a mapping. Raises ConfigError for another form."""
    pairs = [value.partition("=") for value in values]
    if wrong := [key for key, equals, _ in pairs if not equals]:
        raise ConfigError(f"--override: found {wrong[0]!r}, accepted: KEY=VALUE")
    return _checked({key: text for key, _, text in pairs}, "--override: ")


def make_config(run: Planned) -> Config:
    """Returns the config with which gshard-train will train a run. Raises ConfigError."""
    try:
        config = load_config(run.config)
        for key, text in run.override.items():
            set_value(config, key, parse_value(key, text))
        check(config)
        if config.train.stop_after:
            raise ConfigError(
                f"config.train.stop_after: found {config.train.stop_after}, accepted: 0 (the runs "
                "of an experiment are compared after the same number of steps)"
            )
    except ConfigError as error:
        raise ConfigError(f"run {run.name}: {error}") from None
    return config
