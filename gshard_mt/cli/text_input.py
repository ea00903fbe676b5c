"""Text input: the lines of files and pipes in windows; what a pipe has sent is not held back."""
# SPDX-License-Identifier: Apache-2.0

import contextlib
import fcntl
import io
import os
import re
import selectors
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, BinaryIO, NamedTuple

from gshard_mt.data.corpora.files import open_bytes
from gshard_mt.data.corpora.text_lines import decode_line
from gshard_mt.errors import ConfigError, DataError
from gshard_mt.storage.bucket_path import open_path
from gshard_mt.storage.cache import local_copy

# A pipe that is silent for so long waits for translations; one that isn't gets some after a while.
GATHER_SECONDS = 0.02
MAX_GATHER_SECONDS = 0.5
_CHUNK_BYTES = 1 << 16
_PIPE_BYTES = 1 << 20  # the writer can go on while a window is translated


class Source(NamedTuple):
    """An open file or pipe to read lines from."""

    name: str
    file: BinaryIO
    is_pipe: bool  # or a terminal: its lines come when they come, and only once
    # Makes of a line and its place, file:line, what is read of it; may raise DataError.
    parse: Callable[[str, str], Any] = lambda line, where: line


class InputShard(NamedTuple):
    """The lines whose number from 1 is congruent to `index` modulo `count`."""

    index: int = 1  # of the shard, from 1
    count: int = 1  # of shards

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def line_number(self, position: int) -> int:
        """Returns the number in the whole input, from 1, of a line of the shard, from 0."""
        return self.index + position * self.count


WHOLE = InputShard()


def read_shard(text: str) -> InputShard:
    """Reads `I/N`. Raises ConfigError."""
    match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
    shard = InputShard(*map(int, match.groups())) if match else InputShard(0)
    if not 1 <= shard.index <= shard.count:
        raise ConfigError(f"--shard: found {text!r}, accepted: I/N with I from 1 to N, e.g. 2/8")
    return shard


def open_sources(
    paths: Sequence[str],
    files: contextlib.ExitStack,
    parse: Callable[[str, str], Any] = lambda line, where: line,
) -> list[Source]:
    """Opens the files, or standard input if there are none. Raises ConfigError."""
    if not paths and sys.stdin is None:
        raise ConfigError("--input: missing, and standard input is closed; accepted: a text file")
    if not paths:
        return [Source("standard input", sys.stdin.buffer, not sys.stdin.buffer.seekable(), parse)]
    found = []
    for path in paths:
        try:
            file = files.enter_context(open(local_copy(open_path(path)), "rb"))
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise ConfigError(
                f"--input: found {path}, which can't be read ({reason}); accepted: a text file"
            ) from None
        found.append(Source(path, file, not file.seekable(), parse))
    return found


def check_text(sources: Iterable[Source]) -> None:
    """Raises DataError at the first line of a file that can't be read; pipes are not touched."""
    for source in sources:
        if not source.is_pipe:
            start = source.file.tell()
            for _ in _read_lines(source):
                pass
            descriptor = _descriptor(source.file)
            if descriptor is None:
                source.file.seek(start)
            else:
                os.lseek(descriptor, start, os.SEEK_SET)


def read_windows(
    sources: Sequence[Source], size: int, shard: InputShard = WHOLE, num_skipped: int = 0
) -> Iterator[list[str]]:
    """Yields a shard's lines, without their ends, in lists of `size`; the first few are skipped.

    A list is shorter if a pipe has sent no more for GATHER_SECONDS, or not enough for
    MAX_GATHER_SECONDS, and at the end. Raises DataError with file:line where the text isn't UTF-8,
    after the lines before it.
    """
    window: list[str] = []
    since = 0.0
    has_pipe = any(source.is_pipe for source in sources)  # else windows depend on the lines alone
    lines = (line for source in sources for line in _read_lines(source))
    lines = _select(lines, shard, num_skipped)
    try:
        for line in lines:
            if line is not None:
                since = since if window else time.monotonic()
                window.append(line)
            is_late = has_pipe and time.monotonic() - since > MAX_GATHER_SECONDS
            if len(window) == size or (window and (line is None or is_late)):
                yield window
                window = []
    except DataError:
        if window:
            yield window
        raise
    if window:
        yield window


def _select(
    lines: Iterable[str | None], shard: InputShard, num_skipped: int
) -> Iterator[str | None]:
    """Yields the lines of a shard but for those skipped, and every None."""
    number, first = 0, shard.line_number(num_skipped)
    for line in lines:
        number += line is not None
        if line is None or (number >= first and (number - first) % shard.count == 0):
            yield line


def _read_lines(source: Source) -> Iterator[str | None]:
    """Yields every line, and None each time that a pipe has sent no more for GATHER_SECONDS."""
    number = 0
    for line in _read_pipe(source.file) if source.is_pipe else _read_file(source):
        if line is None:
            yield None
        else:
            number += 1
            where = f"{source.name}:{number}"
            yield source.parse(decode_line(line, number, source.name), where)


def _read_file(source: Source) -> Iterator[bytes]:
    if source.file is not sys.stdin.buffer:
        with open_bytes(open_path(source.name)) as file:
            yield from file
    elif (descriptor := _descriptor(source.file)) is None:
        yield from source.file
    else:
        # Buffered by another object, since `check_text` and a restarted process read it again.
        with open(descriptor, "rb", closefd=False) as file:
            yield from file


def _descriptor(file: BinaryIO) -> int | None:
    try:
        return file.fileno()
    except io.UnsupportedOperation:  # in memory
        return None


def _read_pipe(file: BinaryIO) -> Iterator[bytes | None]:
    """Yields the lines of a pipe as they come, and None each time that it is silent after some."""
    with contextlib.suppress(OSError, AttributeError):  # no pipe, or not on Linux
        fcntl.fcntl(file, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    pending: list[bytes] = []  # parts of a line without its end
    has_new = False
    with selectors.DefaultSelector() as selector:
        selector.register(file, selectors.EVENT_READ)
        while True:
            if not selector.select(GATHER_SECONDS if has_new else None):
                has_new = False
                yield None
                continue
            chunk = os.read(file.fileno(), _CHUNK_BYTES)
            if not chunk:
                break
            first, *others = chunk.split(b"\n")
            pending.append(first)
            for other in others:
                yield b"".join(pending)
                pending = [other]
                has_new = True
    if last := b"".join(pending):
        yield last
