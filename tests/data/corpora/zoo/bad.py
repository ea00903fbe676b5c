"""A bad file: what lies in a folder, how it is read, and what must be said of it."""
# SPDX-License-Identifier: Apache-2.0

import pathlib
from collections.abc import Mapping
from typing import NamedTuple

MEBIBYTE = 1 << 20


class Bad(NamedTuple):
    """What lies in a folder, and what the one line must say of it."""

    scheme: str
    location: str
    files: Mapping[str, bytes | None | str]  # None is a folder, a string a symbolic link to it
    said: str  # a regular expression; FILE in it is the first file's path
    languages: tuple[str, ...] = ("de",)


def half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def lay(folder: pathlib.Path, bad: Bad) -> None:
    """Writes the files of the case into the folder."""
    for name, content in bad.files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            path.mkdir()
        elif isinstance(content, str):
            path.symlink_to(content)
        else:
            path.write_bytes(content)
