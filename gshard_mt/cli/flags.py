"""What all commands share: common flags, `--help`, and one-line errors with exit status 2."""
# SPDX-License-Identifier: Apache-2.0

import atexit
import dataclasses
import errno
import functools
import gc
import importlib.metadata
import itertools
import logging as python_logging
import os
import pathlib
import platform
import re
import signal
import sys
import textwrap
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from absl import app, flags, logging

from gshard_mt.config.checks import check
from gshard_mt.config.keys import (
    KEYS,
    SECTIONS,
    check_values,
    parse_value,
    refuse_unknown_key,
    set_value,
)
from gshard_mt.config.load import load_config, shorten_paths, starters
from gshard_mt.config.records import Config
from gshard_mt.errors import ConfigError, UserError, describe_out_of_memory, is_out_of_memory
from gshard_mt.partitioning import libtpu
from gshard_mt.run.mirror import shown

# Keeps native log lines off standard error. XLA reads the variable on first use, hence at import.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
python_logging.getLogger("jax").setLevel(python_logging.WARNING)  # INFO lists missing accelerators
if not libtpu.is_tpu_host():  # there libtpu, gshard-plan's compiler, would report what it misses
    libtpu.use_as_compiler()

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_ACCESS = (
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ENAMETOOLONG,
    errno.ELOOP,
)
_GARBAGE = 50_000  # new objects between two collections
_REPEATABLE = ";\n    repeat this option to specify a list of values"  # absl adds it to our text
_HELP = ("--help", "-help", "-h", "-?", "--helpshort", "-helpshort", "--helpfull", "-helpfull")


class _KeyParser(flags.ArgumentParser):
    """Parses the value of a config key. Raises ConfigError."""

    def __init__(self, key: str):
        self.key = key

    def parse(self, argument: str) -> Any:
        return parse_value(self.key, argument)


def define_config() -> None:
    """Defines the required `--config` and its overrides `--config.KEY=VALUE`."""
    text = (
        "Python file whose get_config() returns a gshard_mt.config.Config, or one of the package's "
        f"own configs: {', '.join(starters())}. FILE:ARGUMENT calls get_config(ARGUMENT). "
        "Paths in a file are relative to it."
    )
    flags.DEFINE_string("config", None, text, required=True)
    for name, key in KEYS.items():
        parser, is_switch = _KeyParser(name), key.type is bool
        flag = flags.Flag(parser, None, f"config.{name}", None, key.meaning, boolean=is_switch)
        flags.DEFINE_flag(flag)


def define_workdir(text: str = "Run directory, as written by gshard-train.") -> flags.FlagHolder:
    """Defines the required `--workdir` with `text` as its help."""
    return flags.DEFINE_string("workdir", None, text, required=True)


def define_model() -> Callable[[], pathlib.Path]:
    """Defines `--workdir` and `--model`; returns what reads the folder that one of them names."""
    workdir = flags.DEFINE_string("workdir", None, "Run directory, as written by gshard-train.")
    model = flags.DEFINE_string(
        "model", None, "Instead of --workdir: a folder that gshard-export has written."
    )

    def read() -> pathlib.Path:
        from gshard_mt.run.exported import is_export
        from gshard_mt.run.mirror import open_folder

        if workdir.value and model.value:
            raise ConfigError("--model: given with --workdir; accepted: one of them")
        if not (folder := workdir.value or model.value):
            raise ConfigError("--workdir: missing; accepted: --workdir=RUN or --model=FOLDER")
        opened = open_folder(folder)
        if model.value and not is_export(opened):
            raise ConfigError(
                f"--model: found {model.value}, which is no model of gshard-export with --format "
                "safetensors; accepted: such a folder, or a run directory as --workdir"
            )
        return opened

    return read


def define_decode() -> Callable[[Config], Config]:
    """Defines `--decode`; returns what applies its values to a config. Raises ConfigError."""
    values = flags.DEFINE_multi_string(
        "decode",
        [],
        "KEY=VALUE: a key of the config's decode section with another value than the run's, e.g. "
        "no_stutter=6, split=always or max_source_length=512 (docs/configuration.md); repeatable.",
    )

    def apply(config: Config) -> Config:
        for each in values.value:
            name, is_given, value = each.partition("=")
            if not is_given:
                raise ConfigError(f"--decode: found {each!r}, accepted: KEY=VALUE")
            changed = {name: parse_value(f"decode.{name}", value)}
            config = dataclasses.replace(
                config, decode=dataclasses.replace(config.decode, **changed)
            )
        check_values(config)
        return config

    return apply


def define_step() -> flags.FlagHolder:
    """Defines `--step`."""
    text = (
        "Checkpoint to use: a step number, 'latest', 'best' by train.best_by, or 'average', the "
        "mean of all saved checkpoints."
    )
    return flags.DEFINE_string("step", "latest", text)


def read_config() -> Config:
    """Returns the config of `--config` with its overrides, checked. Raises ConfigError."""
    config, _ = read_values()
    check(config)
    return config


def read_values() -> tuple[Config, list[str]]:
    """Returns the config with its overrides, and their keys; only single values are checked.

    A relative path of the config file is in that file's folder, one of the command line in the
    working directory. Raises ConfigError.
    """
    config = load_config(flags.FLAGS.config)
    shorten_paths(config)
    given = [name for name in KEYS if flags.FLAGS[f"config.{name}"].value is not None]
    for name in given:
        set_value(config, name, flags.FLAGS[f"config.{name}"].value)
    check_values(config)
    return config, given


def command(main: Callable[..., None], *operands: str) -> Callable[[], NoReturn]:
    """Returns the console script that runs `main`; under `python -m MODULE` runs it right away.

    `operands` name the arguments of the command that are no flags; `main` is called with them. The
    last line of every command's module is `entry = command(main)`.
    """
    if main.__module__ == "__main__":
        _run(main, operands)
    return functools.partial(_run, main, operands)


def _run(main: Callable[..., None], operands: Sequence[str]) -> NoReturn:
    """Parses the command line, runs `main` and exits.

    A UserError, a full disk, an inaccessible path or a lack of memory is one line on standard error
    and exit status 2; ctrl-C is exit status 130, a closed output pipe 141. Any other exception is a
    bug and keeps its traceback.
    """
    # What is imported stays. To look for garbage in it, now and once more at the end, would take
    # half a second.
    gc.set_threshold(_GARBAGE)
    atexit.register(gc.freeze)
    flags.FLAGS.set_default("verbosity", logging.ERROR)
    words = list(itertools.takewhile(lambda word: word != "--", sys.argv[1:]))
    try:
        if any(word in _HELP for word in words):
            print(_help_text(main), flush=True)
            sys.exit(0)
        if "--version" in words:
            print(_versions(), flush=True)
            sys.exit(0)
        app.run(
            lambda argv: main(*argv[1:]), flags_parser=functools.partial(_parse, operands=operands)
        )
    except UserError as error:
        print(f"error: {shown(error)}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        _leave(128 + signal.SIGINT)
    except BrokenPipeError:  # the reader, such as `head`, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except OSError as error:
        if error.errno in _DISK_FULL:
            remedy = "free some space and run the same command again"
        elif error.errno in _NO_ACCESS and error.filename:
            remedy = "give a path that can be read and written"
        else:
            raise
        where = f"{shown(error.filename)}: " if error.filename else ""
        print(f"error: {where}{error.strerror}; {remedy}", file=sys.stderr)
        sys.exit(2)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        print(f"error: {describe_out_of_memory(error, 'this model and batch')}", file=sys.stderr)
        sys.exit(2)
    sys.exit(0)


def _leave(status: int) -> NoReturn:
    """Exits; at once where threads of XLA may still compute, which would crash at a regular end."""
    if "jax" in sys.modules:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def _parse(argv: Sequence[str], operands: Sequence[str]) -> list[str]:
    """Returns the command and its operands; absl's parse errors become one-line ConfigErrors."""
    try:
        rest = flags.FLAGS(argv)
    except flags.Error as error:
        raise ConfigError(_explain(str(error))) from error
    if len(rest) > 1 + len(operands):
        found = rest[1 + len(operands)]
        raise ConfigError(f"{found}: unexpected argument; every setting is --flag=value")
    if len(rest) < 1 + len(operands):
        raise ConfigError(f"{operands[len(rest) - 1]}: missing (see --help)")
    return rest


def _explain(message: str) -> str:
    """Returns an absl error message as one line that starts with the flag or the file."""
    if missing := re.search(r"Flag --(\S+) must have a value other than None", message):
        return f"--{missing[1]}: missing; accepted: --{missing[1]}=VALUE (see --help)"
    if unknown := re.search(r"Unknown command line flag '(.*?)'\.?(.*)", message):
        if key := re.fullmatch(r"(?:no)?config\.(.*)", unknown[1]):
            refuse_unknown_key(key[1])
            return f"config.{key[1]}: takes a value; accepted: --config.{key[1]}=VALUE"
        if remedy := _find_key(unknown[1]):
            return f"--{unknown[1]}: unknown flag; did you mean {remedy}?"
        near = re.search(r"Did you mean: (.*?) \?", unknown[2])
        remedy = f"did you mean --{near[1].split(',')[0].strip()}?" if near else "see --help"
        return f"--{unknown[1]}: unknown flag; {remedy}"
    return " ".join(message.split())


def _find_key(name: str) -> str:
    """Returns how this command sets `name`, which is the end of a config key; empty if it isn't."""
    if "config" in flags.FLAGS:
        found = [f"--config.{key}" for key in KEYS if f".{key}".endswith(f".{name}")]
    else:
        found = [f"--decode {name}=VALUE"] * ("decode" in flags.FLAGS and f"decode.{name}" in KEYS)
    return " or ".join(found)


def _versions() -> str:
    """Returns what a report of a bug should say."""
    jax = importlib.metadata.version("jax")
    own = importlib.metadata.version("gshard-mt")
    return f"gshard-mt {own} (jax {jax}, Python {platform.python_version()})"


def _help_text(main: Callable[..., None]) -> str:
    """Returns the command's docstring, its own flags, and what every config key means."""
    module = sys.modules[main.__module__]
    lines = [(module.__doc__ or "").strip(), "", "Flags:"]
    ours = [
        flag
        for name, members in flags.FLAGS.flags_by_module_dict().items()
        if name.startswith("gshard_mt.") or name == sys.argv[0]
        for flag in members
        if not flag.name.startswith("config.")
    ]
    for flag in sorted(ours, key=lambda flag: flag.name):
        default = "" if flag.default in (None, [], "") else f" (default: {flag.default})"
        text = " ".join((flag.help or "").removesuffix(_REPEATABLE).split()) + default
        name = f"[no]{flag.name}" if flag.boolean else flag.name
        lines += [f"  --{name}", _indent(text)]
    lines += ["  --version", _indent("Print the versions of gshard-mt, JAX and Python.")]
    if "config" in flags.FLAGS:
        lines += [
            "",
            "Config keys with their defaults:",
        ]
        for section, record in SECTIONS.items():
            lines += ["", f"  {section}: {' '.join((record.__doc__ or '').split())}"]
            for name, key in KEYS.items():
                if name.rpartition(".")[0] == section:
                    lines += [f"  --config.{name}={key.default}"]
                    lines += [_indent(f"{key.meaning} (accepted: {key.accepted.words})")]
    return "\n".join(lines)


def _indent(text: str) -> str:
    return textwrap.indent(textwrap.fill(text, 88), " " * 6)
