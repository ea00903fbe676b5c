"""Errors for the user: one or two lines on standard error, exit status 2, no traceback."""
# SPDX-License-Identifier: Apache-2.0

import difflib
import re
from collections.abc import Iterable

_OUT_OF_MEMORY = re.compile(r"out of memory|RESOURCE_EXHAUSTED", re.IGNORECASE)
_ASKED = re.compile(r"allocat\w+ (\d+) bytes")


class UserError(Exception):
    """An error the user can fix. The message says where, what was found, what is accepted."""


class ConfigError(UserError):
    """A configuration key has a value that is not accepted; the message starts with the key."""


class DataError(UserError):
    """A corpus, recipe or prepared directory can't be used; the message starts with the path.

    One line, even if a file name or a library's message has line breaks.
    """

    def __init__(self, message: str):
        super().__init__(" ".join(message.splitlines()))


class CheckpointError(UserError):
    """A run directory or checkpoint can't be used; the message starts with the path."""


class DamagedError(CheckpointError):
    """A checkpoint is not what was saved; others may be intact."""


class ExportError(UserError):
    """An exported model can't be written; the message starts with the path."""


class StorageError(UserError):
    """A bucket can't be used; the message starts with the path."""


class TrainingError(UserError):
    """Training can't continue: a bad step, devices that disagree, a full disk."""


def suggest(word: str, known: Iterable[str]) -> str:
    """Returns `; did you mean X?` for the nearest known word, else the accepted words."""
    known = sorted(known)
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else f"; accepted: {', '.join(known)}"


def is_out_of_memory(error: BaseException | None) -> bool:
    """Returns whether Python, NumPy or XLA could not get the memory that it asked for."""
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError) and bool(_OUT_OF_MEMORY.search(str(error)))


def describe_out_of_memory(error: BaseException, needed_by: str) -> str:
    """Returns a line about what was refused, what needed it, and how less would do."""
    asked = _ASKED.search(str(error))
    found = f" (an allocation of {int(asked[1]) / 2**20:,.0f} MiB was refused)" if asked else ""
    return (
        f"out of memory{found} with {needed_by}; gshard-plan tells what a config needs and what "
        "makes it less"
    )
