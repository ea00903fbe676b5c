"""What all commands share: common flags, `--help`, and one-line errors with exit status 2."""
# SPDX-License-Identifier: Apache-2.0

import dataclasses
import errno
import functools
import logging as python_logging
import os
import pathlib
import re
import signal
import sys
import textwrap
from collections.abc import Callable, Sequence
from typing import NoReturn

from absl import app, flags, logging
from ml_collections import config_flags

from gshard_mt.config.checks import check
from gshard_mt.config.keys import KEYS, check_values, items, parse_value, refuse_unknown_key
from gshard_mt.config.load import load_config
from gshard_mt.config.records import Config
from gshard_mt.errors import ConfigError, UserError

# Keeps native log lines off standard error. XLA reads the variable on first use, hence at import.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
python_logging.getLogger("jax").setLevel(python_logging.WARNING)  # INFO lists missing accelerators

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
_REPEATABLE = ";\n    repeat this option to specify a list of values"  # absl adds it to our text
_HELP = ("--help", "-help", "-h", "-?", "--helpshort", "-helpshort", "--helpfull", "-helpfull")


def define_config() -> None:
    """Defines the required `--config FILE` with its overrides `--config.KEY=VALUE`."""
    try:
        config_flags.DEFINE_config_file(
            "config",
            help_string="Python file whose get_config() returns a gshard_mt.config.Config, or "
            "FILE:ARGUMENT for get_config(ARGUMENT). Override any key with --config.KEY=VALUE, "
            "e.g. --config.train.num_steps=5000.",
            lock_config=False,
        )
    except flags.Error as error:  # it reads a --flagfile already here
        print(f"error: --flagfile: {_explain(str(error))}", file=sys.stderr)
        sys.exit(2)
    flags.mark_flag_as_required("config")


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

        if workdir.value and model.value:
            raise ConfigError("--model: given with --workdir; accepted: one of them")
        if not (folder := workdir.value or model.value):
            raise ConfigError("--workdir: missing; accepted: --workdir=RUN or --model=FOLDER")
        if model.value and not is_export(pathlib.Path(model.value)):
            raise ConfigError(
                f"--model: found {model.value}, which is no model of gshard-export with --format "
                "safetensors; accepted: such a folder, or a run directory as --workdir"
            )
        return pathlib.Path(folder)

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
    check(flags.FLAGS.config)
    return flags.FLAGS.config


def command(main: Callable[[], None]) -> Callable[[], NoReturn]:
    """Returns the console script that runs `main`; under `python -m MODULE` runs it right away.

    The last line of every command's module is `entry = command(main)`.
    """
    if main.__module__ == "__main__":
        _run(main)
    return functools.partial(_run, main)


def _run(main: Callable[[], None]) -> NoReturn:
    """Parses the command line, runs `main()` and exits.

    A UserError, a full disk or an inaccessible path is one line on standard error and exit status
    2; ctrl-C is exit status 130, a closed output pipe 141. Any other exception is a bug and keeps
    its traceback.
    """
    flags.FLAGS.set_default("verbosity", logging.ERROR)
    try:
        if any(argument in _HELP for argument in _before_end(sys.argv[1:])):
            print(_help_text(main), flush=True)
            sys.exit(0)
        app.run(lambda _: main(), flags_parser=_parse)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
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
        where = f"{error.filename}: " if error.filename else ""
        print(f"error: {where}{error.strerror}; {remedy}", file=sys.stderr)
        sys.exit(2)
    sys.exit(0)


def _parse(argv: Sequence[str]) -> list[str]:
    """Returns absl's leftover arguments; its parse errors become one-line ConfigErrors."""
    try:
        # The flags in a --flagfile, too.
        argv = [argv[0], *flags.FLAGS.read_flags_from_files(argv[1:], force_gnu=False)]
        if "config" in flags.FLAGS:
            _check_config_flags(_before_end(argv[1:]))
        rest = flags.FLAGS(argv)
    except flags.Error as error:
        raise ConfigError(_explain(str(error))) from error
    if len(rest) > 1:
        raise ConfigError(f"{rest[1]}: unexpected argument; every setting is --flag=value")
    return rest


def _before_end(arguments: Sequence[str]) -> list[str]:
    """Returns the arguments before `--`."""
    arguments = list(arguments)
    return arguments[: arguments.index("--")] if "--" in arguments else arguments


def _check_config_flags(arguments: Sequence[str]) -> None:
    """Refuses a config file that fails, unknown keys and badly typed values, ahead of absl."""
    for index, argument in enumerate(arguments):
        match = re.fullmatch(r"--?(no)?config(?:\.([^=]*))?(?:=(.*))?", argument, re.DOTALL)
        if not match:
            continue
        negated, key, value = match.groups()
        following = arguments[index + 1] if index + 1 < len(arguments) else None
        if key is None:
            if path := following if value is None else value:
                load_config(path)
            continue
        refuse_unknown_key(key)
        if KEYS[key].type is bool and value is None:
            continue  # --config.data.joint_vocabulary and --noconfig.data.joint_vocabulary
        if negated:
            raise ConfigError(f"config.{key}: takes a value; accepted: --config.{key}=VALUE")
        parse_value(key, following if value is None else value)


def _explain(message: str) -> str:
    """Returns an absl error message as one line that starts with the flag or the file."""
    if missing := re.search(r"Flag --(\S+) must have a value other than None", message):
        return f"--{missing[1]}: missing; accepted: --{missing[1]}=VALUE (see --help)"
    if unknown := re.search(r"Unknown command line flag '(.*?)'\.?(.*)", message):
        near = re.search(r"Did you mean: (.*?) \?", unknown[2])
        remedy = f"did you mean --{near[1].split(',')[0].strip()}?" if near else "see --help"
        return f"--{unknown[1]}: unknown flag; {remedy}"
    return " ".join(message.split())


def _help_text(main: Callable[[], None]) -> str:
    """Returns the command's docstring, its own flags, and the config keys with their defaults."""
    module = sys.modules[main.__module__]
    lines = [(module.__doc__ or "").strip(), "", "Flags:"]
    ours = [
        flag
        for name, members in flags.FLAGS.flags_by_module_dict().items()
        if name.startswith("gshard_mt.") or name == sys.argv[0]
        for flag in members
    ]
    for flag in sorted(ours, key=lambda flag: flag.name):
        default = "" if flag.default in (None, [], "") else f" (default: {flag.default})"
        text = " ".join((flag.help or "").removesuffix(_REPEATABLE).split()) + default
        name = f"[no]{flag.name}" if flag.boolean else flag.name
        lines += [f"  --{name}", textwrap.indent(textwrap.fill(text, 88), " " * 6)]
    if "config" in flags.FLAGS:
        lines += ["", "Config keys with their defaults (explained in docs/configuration.md):"]
        lines += [f"  --config.{key}={value}" for key, value in items(Config())]
    return "\n".join(lines)
