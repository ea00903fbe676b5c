"""Loads a config file: by path, or by path and argument as in `configs/gshard.py:2048e_36l`."""
# SPDX-License-Identifier: Apache-2.0

import os
import pathlib
import runpy
import traceback

from gshard_mt.config.keys import refuse_unknown_attribute
from gshard_mt.config.records import Config
from gshard_mt.errors import ConfigError, UserError


def load_config(name: str | os.PathLike[str]) -> Config:
    """Returns the config of FILE's `get_config()`, of FILE:ARGUMENT's `get_config(ARGUMENT)`.

    Raises ConfigError, with the line at fault, if there is no such file or it fails.
    """
    path, _, argument = os.fspath(name).partition(":")
    if not (file := pathlib.Path(path)).is_file():
        found = "not a regular file" if file.exists() else "not found"
        raise ConfigError(f"{path}: {found}; accepted: the path of a config file")
    try:
        functions = runpy.run_path(path)
        if "get_config" not in functions:
            raise ConfigError(f"{path}: no get_config(); accepted: a file that defines it")
        config = functions["get_config"](*[argument] if argument else [])
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # a file may call sys.exit(), too
        raise ConfigError(f"{_line_at_fault(error, path)}: {_reason(error)}") from error
    if not isinstance(config, Config):
        found = "None" if config is None else f"a {type(config).__name__}"
        raise ConfigError(
            f"{path}: get_config() returned {found}, accepted: gshard_mt.config.Config"
        )
    return config


def _line_at_fault(error: BaseException, path: str) -> str:
    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == path]
    return f"{path}:{lines[-1]}" if lines else path


def _reason(error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        return error.msg
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"imports {error.name}, which is not installed; install it or leave it out"
    try:
        refuse_unknown_attribute(str(error))
    except ConfigError as unknown:
        return str(unknown)
    return " ".join(f"{type(error).__name__}: {error}".split())
