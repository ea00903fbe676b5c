"""Mirrors: local copies of run directories and exported models that are in buckets."""
# SPDX-License-Identifier: Apache-2.0

import atexit
import contextlib
import os
import pathlib
import re
import shutil
import socket
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from gshard_mt.documents import draft_of
from gshard_mt.errors import CheckpointError
from gshard_mt.storage.bucket_path import BucketPath, open_path
from gshard_mt.storage.cache import copies_folder

if TYPE_CHECKING:
    from gshard_mt.run.bucket_lock import BucketLock

_CHECKPOINTS, _COMMITTED, _TAILS, _JOURNAL = "checkpoints", "committed", "tails", ".jsonl"
# What is copied when a mirror is opened; arrays are fetched when they are needed.
_WANTED = re.compile(
    r"(?!model.*\.(safetensors|bin)$)[^/]+|tokenizer/.*|eval/[^/]+/dev/calibration\.json"
    r"|checkpoints/\d+/(state/.*|[^/]+)"
)
_LAST = ("table.json", "config.json")  # without it, a folder is no evaluation, run or export
_MAX_TAIL = 1 << 16  # bytes
_THREADS = 16


class Mirror:
    """A local folder in place of one in a bucket, for one process.

    A journal (`*.jsonl`) is two objects: the whole, rewritten now and then, and the lines since,
    `tails/JOURNAL/SIZE`, with the size of the whole that they continue. A checkpoint is whole if
    every process that saved it has left its mark in `committed/`, which each does last.
    """

    def __init__(self, remote: BucketPath, local: pathlib.Path):
        self.remote, self.local = remote, local
        self.lock: BucketLock | None = None  # of the process that trains
        self._sizes: dict[str, int] = {}  # of the objects of journals
        self._pushed: dict[str, tuple[int, int]] = {}  # name -> size and time of the local file
        self._fetched: set[str] = set()

    def pull(self) -> None:
        """Replaces the local folder with what is in the bucket, except arrays and evaluations."""
        shutil.rmtree(self.local, ignore_errors=True)
        self.local.mkdir(parents=True)
        names = self._names()
        whole = _whole_steps(names)
        wanted = [name for name in names if _WANTED.fullmatch(name)]
        self._download(name for name in wanted if _step_of(name) in (None, *whole))
        self._sizes = {}
        for name in wanted:
            if name.endswith(_JOURNAL):
                path = self.local / name
                self._sizes[name] = path.stat().st_size
                if (tail := f"{_TAILS}/{name}/{self._sizes[name]}") in names:
                    with path.open("ab") as file:
                        file.write((self.remote / tail).read_bytes())
        for name in names:
            if name.startswith("damaged/"):  # these names are taken
                self.local.joinpath(*name.split("/")[:2]).mkdir(parents=True, exist_ok=True)
        self._pushed = dict(self._local_files())
        self._fetched = set()

    def fetch(self, folder: str) -> None:
        """Copies what the local folder lacks of a folder, or of the files that begin so."""
        if folder not in self._fetched:
            wanted = [name for name in self._names() if name.startswith(folder)]
            self._download(name for name in wanted if not (self.local / name).exists())
            self._fetched.add(folder)

    def drop(self, folder: str) -> None:
        """Deletes the local copy of what is in the bucket."""
        shutil.rmtree(self.local / folder, ignore_errors=True)
        self._fetched.discard(folder)

    def push(self, folder: str = "") -> None:
        """Copies all files that are new or changed, without checkpoints and journals."""
        changed = [
            (name, state)
            for name, state in self._local_files()
            if name.startswith(folder)
            and not name.endswith(_JOURNAL)
            and self._pushed.get(name) != state
        ]
        self._check_lock()
        for is_last in (False, True):
            names = [name for name, _ in changed if (name.rpartition("/")[2] in _LAST) == is_last]
            _each(lambda name: (self.remote / name).upload(self.local / name), names)
        self._pushed |= dict(changed)

    def push_journal(self, name: str, whole: bool = False) -> None:
        """Copies the lines that were added to a journal; `whole`: it may have been rewritten."""
        self._check_lock()
        path, start = self.local / name, self._sizes.get(name, 0)
        tails = self.remote / _TAILS / name
        if not whole and path.stat().st_size - start <= _MAX_TAIL:
            with path.open("rb") as file:
                file.seek(start)
                (tails / str(start)).write_bytes(file.read())
            return
        content = path.read_bytes()
        (self.remote / name).write_bytes(content)
        self._sizes[name] = len(content)
        _each(lambda path: path.unlink(missing_ok=True), tails.objects())

    def push_step(self, step: int, folder: pathlib.Path, part: int, parts: int) -> None:
        """Copies what one of some processes has of a checkpoint, and then leaves its mark."""
        files = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
        target = self.remote / _CHECKPOINTS / str(step)
        _each(lambda name: (target / name).upload(folder / name), files)
        self._check_lock(is_certain=True)
        (self.remote / _COMMITTED / f"{step}.{part}-of-{parts}").write_bytes(b"")

    def keep_steps(self, kept: Collection[int]) -> None:
        """Deletes all other checkpoints, also those that are not whole."""
        gone = [name for name in self._names() if _step_of(name) not in (None, *kept)]
        marks = [name for name in gone if name.startswith(_COMMITTED)]
        for names in (marks, set(gone) - set(marks)):  # without its marks it is whole no more
            _each(lambda name: (self.remote / name).unlink(missing_ok=True), names)

    def finish(self) -> None:
        """Copies everything that is left to copy."""
        self.push()
        for path in self.local.glob(f"*{_JOURNAL}"):
            if path.stat().st_size != self._sizes.get(path.name):
                self.push_journal(path.name, whole=True)

    def _check_lock(self, is_certain: bool = False) -> None:
        if self.lock:
            self.lock.check(is_certain)

    def _names(self) -> list[str]:
        return [path.relative_to(self.remote).as_posix() for path in self.remote.objects()]

    def _download(self, names: Iterable[str]) -> None:
        def copy(name: str) -> None:
            path = self.local / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with draft_of(path) as draft:
                (self.remote / name).download(draft)

        _each(copy, names)

    def _local_files(self) -> Iterator[tuple[str, tuple[int, int]]]:
        """Yields names, sizes and times of all files but those of checkpoints.

        Orbax may be saving a checkpoint at this moment: its files are renamed and vanish.
        """
        for folder, folders, names in os.walk(self.local):
            if folder == str(self.local) and _CHECKPOINTS in folders:
                folders.remove(_CHECKPOINTS)
            for path in (pathlib.Path(folder, name) for name in names):
                status = path.stat()
                state = (status.st_size, status.st_mtime_ns)
                yield path.relative_to(self.local).as_posix(), state


_MIRRORS: dict[BucketPath, Mirror] = {}  # of this process


def open_folder(name: str | os.PathLike[str]) -> pathlib.Path:
    """Returns the folder itself or, of one in a bucket, its mirror as it is now."""
    path = open_path(name)
    if not isinstance(path, BucketPath):
        return path
    mirror = _MIRRORS.get(path)
    if not mirror:
        mirror = _MIRRORS[path] = Mirror(path, _own_folder() / str(len(_MIRRORS)) / path.name)
    mirror.pull()
    return mirror.local


@contextlib.contextmanager
def output_folder(name: str, is_new: bool = False) -> Iterator[pathlib.Path]:
    """Yields the folder itself or, of one in a bucket, a mirror, which is copied there at the end.

    `is_new` raises CheckpointError for a folder of a bucket that has anything in it.
    """
    path, folder = open_path(name), open_folder(name)
    mirror = find_mirror(folder)
    if mirror and is_new and (found := next(iter(mirror.remote.objects()), None)):
        raise CheckpointError(
            f"{path}: found {found.name} in it, accepted: an empty folder, or a new one"
        )
    yield folder
    push_changes(folder)


def opened_folder(name: str) -> pathlib.Path:
    """Returns a folder as `open_folder` has returned it before."""
    mirror = _MIRRORS.get(open_path(name))  # type: ignore[arg-type]
    return mirror.local if mirror else open_folder(name)


def find_mirror(folder: pathlib.Path) -> Mirror | None:
    """Returns the mirror whose local folder this is, if it is one."""
    return next((each for each in _MIRRORS.values() if each.local == folder), None)


def push_changes(folder: pathlib.Path, part: str = "") -> None:
    """Copies what is new in a mirror into its bucket; does nothing with any other folder."""
    if mirror := find_mirror(folder):
        mirror.push(part)


def shown(text: Any) -> str:
    """Returns a text with the URI wherever it names the local folder of a mirror."""
    text = str(text)
    for mirror in _MIRRORS.values():
        text = text.replace(str(mirror.local), str(mirror.remote))
    return text


def _own_folder() -> pathlib.Path:
    """Returns the folder of this process's mirrors, and deletes those that dead ones have left."""
    host = f"{socket.gethostname()}-"
    own = copies_folder() / "mirrors" / f"{host}{os.getpid()}"
    own.mkdir(parents=True, exist_ok=True)
    for other in own.parent.glob(f"{host}*"):
        try:
            os.kill(int(other.name.removeprefix(host)), 0)
        except ProcessLookupError:
            shutil.rmtree(other, ignore_errors=True)
        except OSError:
            continue  # alive, and another user's
    atexit.register(shutil.rmtree, own, ignore_errors=True)
    return own.resolve()


def _each(work: Callable[[Any], Any], items: Iterable[Any]) -> None:
    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(work, items))


def _step_of(name: str) -> int | None:
    match = re.match(rf"(?:{_CHECKPOINTS}/(\d+)/|{_COMMITTED}/(\d+)\.)", name)
    return int(match[1] or match[2]) if match else None


def _whole_steps(names: Iterable[str]) -> set[int]:
    """Returns the steps that all processes that saved them have marked."""
    marks = Counter(
        (int(match[1]), int(match[2]))
        for match in (re.fullmatch(rf"{_COMMITTED}/(\d+)\.\d+-of-(\d+)", name) for name in names)
        if match
    )
    return {step for (step, parts), number in marks.items() if number == parts}
