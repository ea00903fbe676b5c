"""How a field of a config record declares its default, its meaning and the values it accepts."""
# SPDX-License-Identifier: Apache-2.0

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple


class Accepted(NamedTuple):
    """The accepted values of a key: a test, and its wording in errors and in the documentation."""

    test: Callable[[Any], bool]
    words: str
    names: tuple[str, ...] = ()  # all accepted values, where they are names

    def or_value(self, value: Any, meaning: str) -> "Accepted":
        """Accepts one more value, which has a meaning of its own."""
        words = f"{value} ({meaning}), or {self.words}"
        return Accepted(lambda found: found == value or self.test(found), words)


def at_least(least: int) -> Accepted:
    return Accepted(lambda value: value >= least, f"{least} or more")


def above(bound: int) -> Accepted:
    return Accepted(lambda value: value > bound, f"more than {bound}")


def one_of(*names: str) -> Accepted:
    return Accepted(lambda value: value in names, ", ".join(names), names)


RATE = Accepted(lambda value: 0 <= value < 1, "at least 0 and less than 1")
SWITCH = Accepted(lambda _: True, "True, False")
TEXT = Accepted(lambda _: True, "text")
PATH = Accepted(lambda _: True, "a path, or nothing")
PATHS = Accepted(lambda _: True, "paths or globs, by commas, or nothing")


def option(default: Any, meaning: str, accepted: Accepted | None = None) -> Any:
    """Returns the field of a record. Numbers say what they accept; switches and text need not."""
    accepted = accepted or (SWITCH if isinstance(default, bool) else TEXT)
    return dataclasses.field(default=default, metadata={"meaning": meaning, "accepted": accepted})
