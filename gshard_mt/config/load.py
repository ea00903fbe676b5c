"""Loads a config: a file by its path, one of the package's own by its name, as in `smoke`."""
# SPDX-License-Identifier: Apache-2.0

import os
import pathlib
import runpy
import traceback
from collections.abc import Callable

from gshard_mt.config.keys import KEYS, PATH_KEYS, get_value, refuse_unknown_attribute, set_value
from gshard_mt.config.options import PATHS
from gshard_mt.config.records import Config
from gshard_mt.errors import ConfigError, UserError
from gshard_mt.storage.bucket_path import BucketPath, open_path
from gshard_mt.storage.cache import local_copy

_PACKAGE = pathlib.Path(__file__).parents[1]
_IN_WHEEL = _PACKAGE / "starters"
# Has the folders configs/ and data/ of the project, which pyproject.toml puts into a wheel.
STARTERS = _IN_WHEEL if _IN_WHEEL.is_dir() else _PACKAGE.parent


def load_config(name: str | os.PathLike[str]) -> Config:
    """Returns the config of a file's `get_config()`; of NAME:ARGUMENT's `get_config(ARGUMENT)`.

    NAME is a file, or one of the package's own configs without `.py`. A relative path in the config
    is relative to the file's folder, and absolute in what is returned. Raises ConfigError, with the
    line at fault, if there is no such file or it fails.
    """
    path, argument = _split(os.fspath(name))
    path = str(starters().get(path, path))
    if not (file := open_path(path)).is_file():
        found = "not a regular file" if file.exists() else "no such file"
        accepted = f"the path of a config file, or one of {', '.join(starters())}"
        raise ConfigError(f"{path}: {found}; accepted: {accepted}")
    if file.suffix == ".toml":
        raise ConfigError(
            f"{path}: found TOML; accepted: a Python file that defines get_config() (a recipe goes "
            f"to --config.data.recipe={path})"
        )
    program = str(local_copy(file))
    try:
        functions = runpy.run_path(program)
        if "get_config" not in functions:
            raise ConfigError(f"{path}: no get_config(); accepted: a file that defines it")
        config = functions["get_config"](*[argument] if argument else [])
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # a file may call sys.exit(), too
        where = _line_at_fault(error, program).replace(program, path)
        raise ConfigError(f"{where}: {_reason(error)}") from error
    if not isinstance(config, Config):
        found = "None (is a return missing?)" if config is None else f"a {type(config).__name__}"
        raise ConfigError(
            f"{path}: get_config() returned {found}, accepted: gshard_mt.config.Config"
        )
    folder = file.parent.absolute()
    _map_paths(config, lambda each: _normal(open_path(each, folder)))
    return config


def starters() -> dict[str, pathlib.Path]:
    """Returns the files of the configs that come with the package, by name."""
    return {path.stem: path for path in sorted((STARTERS / "configs").glob("*.py"))}


def shorten_paths(config: Config) -> None:
    """Makes paths relative that are in the working directory, as users would type them."""
    here = pathlib.Path.cwd()
    _map_paths(
        config,
        lambda each: os.path.relpath(each) if pathlib.Path(each).is_relative_to(here) else each,
    )


def _map_paths(config: Config, change: Callable[[str], str]) -> None:
    """Changes the paths in a config that are none of a remote store."""
    for name in PATH_KEYS:
        if not isinstance(value := get_value(config, name), str):
            continue
        are_many = KEYS[name].accepted is PATHS
        paths = [each.strip() for each in (value.split(",") if are_many else [value])]
        changed = [change(each) if each and "://" not in each else each for each in paths]
        set_value(config, name, ",".join(changed))


def _normal(path: pathlib.Path) -> str:
    return str(path) if isinstance(path, BucketPath) else os.path.normpath(path)


def _split(name: str) -> tuple[str, str]:
    """Returns FILE and ARGUMENT of FILE:ARGUMENT."""
    scheme, mark, rest = name.rpartition("://")
    path, _, argument = rest.partition(":")
    return scheme + mark + path, argument


def _line_at_fault(error: BaseException, path: str) -> str:
    if isinstance(error, SyntaxError) and error.lineno:
        return f"{error.filename}:{error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == path]
    return f"{path}:{lines[-1]}" if lines else path


def _reason(error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        return error.msg if error.lineno else f"{error.msg}; accepted: a Python file"
    if isinstance(error, OSError) and error.filename:
        return f"can't be read: {error.filename}: {error.strerror}"
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"imports {error.name}, which is not installed; install it or leave it out"
    try:
        refuse_unknown_attribute(str(error))
    except ConfigError as unknown:
        return str(unknown)
    return " ".join(f"{type(error).__name__}: {error}".split())
