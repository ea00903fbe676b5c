"""The errors that speak to the person at the keyboard: one or two lines, exit status 2."""
# SPDX-License-Identifier: Apache-2.0

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something the user can mend. The message says where, what was found, what is accepted."""


class ConfigError(UserError):
    """A configuration key has a value that can't work; the message starts with the key."""


class DataError(UserError):
    """A corpus, recipe or prepared directory can't be used; the message starts with the path.

    One line, even where a file's name or a library's message has line ends.
    """

    def __init__(self, message: str):
        super().__init__(" ".join(message.splitlines()))


class CheckpointError(UserError):
    """A run directory or checkpoint can't be used; the message starts with the path."""


class DamagedError(CheckpointError):
    """A checkpoint is not what was saved; another one may be."""


class ExportError(UserError):
    """An exported model can't be written; the message starts with the path."""


class TrainingError(UserError):
    """Training can't go on as it is: a bad step, devices that disagree, a disk that is full."""


def suggest(word: str, known: Iterable[str]) -> str:
    """Returns `; did you mean X?` for the nearest known word, else the accepted words."""
    known = sorted(known)
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else f"; accepted: {', '.join(known)}"
