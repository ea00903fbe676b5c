"""The run directory: its config, its lock, and the checks before a run is resumed."""
# SPDX-License-Identifier: Apache-2.0

import contextlib
import fcntl
import hashlib
import json
import os
import pathlib
import re
import shutil
import socket
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from gshard_mt.config.keys import (
    ROW_LENGTHS,
    differing_keys,
    from_json,
    get_value,
    is_of_prepared_data,
    to_json,
)
from gshard_mt.config.records import Config
from gshard_mt.config.stages import have_same_past
from gshard_mt.documents import read_json, write_json
from gshard_mt.errors import CheckpointError, ConfigError, suggest
from gshard_mt.languages import code_of_name, find_language, source_language
from gshard_mt.run.bucket_lock import BucketLock
from gshard_mt.run.journal import METRICS, MIXTURES, ROUTING, read_mixtures
from gshard_mt.run.mirror import find_mirror, push_changes
from gshard_mt.storage.bucket_path import open_path
from gshard_mt.storage.cache import local_folder

FORMAT_VERSION = 2

# Keys that may change when a run is resumed; any other would make it another experiment.
FREE_KEYS = frozenset(
    {f"train.{name}" for name in ("log_every", "eval_every", "save_every", "save_minutes")}
    | {f"train.{name}" for name in ("max_checkpoints", "bad_steps", "spike_sigmas")}
    | {f"train.{name}" for name in ("bleu_every", "bleu_sentences", "best_by", "stop_after")}
    | {"train.sample_translations"}
    | {"model.remat", "train.accumulation_steps"}
)
FREE_SECTIONS = ("mesh.", "decode.")
# train.num_steps may change, too; with the others it may grow once the run is finished.
SCHEDULES_WITHOUT_END = ("inverse_sqrt", "constant", "paper")
# What a run leaves behind; without its config.json nobody knows which run that was.
_LEFT_BY_RUNS = ("checkpoints", "damaged", METRICS, ROUTING, MIXTURES, "eval", "tensorboard")
# What else may be in a run directory before its config.json: a start that was killed, a job's log.
_NO_STRANGERS = re.compile(r"lock|tokenizer|profile|lost\+found|\..*|.*\.(log|out|err|tmp)")
# Keys of `data` that --change_mixture can't change: lengths of rows, the order of the data. Those
# that say how the data were prepared are not compared at all: the data are, and their tokenizer.
FIXED_DATA_KEYS = frozenset({*ROW_LENGTHS, "data.seed"})


class Origin(NamedTuple):
    """The checkpoint whose parameters a run began with (`gshard-train --init_from`)."""

    run: str  # its directory
    step: int | str  # `average`: the mean of all that it had
    checksum: str  # of the parameters

    def __str__(self) -> str:
        return f"{self.run}@{self.step}"

    @property
    def name(self) -> str:
        """The same without the folders that the directory is in, for a page that others read."""
        return f"{pathlib.Path(self.run).name}@{self.step}"


class EarlierData(NamedTuple):
    """Prepared data that a run was trained on before it went on with others."""

    fingerprint: str
    last_step: int
    directory: pathlib.Path | None  # where they were; None: not recorded


class Run(NamedTuple):
    """What a run directory records of its config and of all data that the run was trained on."""

    config: Config
    data_dir: pathlib.Path  # of the prepared data, which are identified by the fingerprint
    data_fingerprint: str
    train_pairs: dict[str, int]  # `de-en` -> sentence pairs trained on, of those that have any
    origin: Origin | None = None  # None: its parameters began at random
    earlier: tuple[EarlierData, ...] = ()
    former_pairs: frozenset[str] = frozenset()  # those of `train_pairs` in earlier data alone

    def check_language(self, language: str, name: str = "source_language") -> None:
        """Raises ConfigError, which begins with `name`, for a language without training.

        It may have any tag of `languages.language_code`: `deu`, `de-AT` and `deu_Latn` are `de`.
        """
        known = [source_language(pair) for pair in self.train_pairs]
        if not find_language(language, known):
            code = find_language(code_of_name(language) or "", known)  # `German`
            raise ConfigError(
                f"{name}: found {language!r}, this run was not trained on it"
                f"{suggest(code or language, known)}"
            )


def read_run(workdir: pathlib.Path) -> Run:
    """Reads `config.json`. Raises CheckpointError if it is missing or in another format.

    A language pair that cleaning left without training pairs is not one of the run's. A pair of
    earlier data is, with the number of the last data that had it.
    """
    path = pathlib.Path(workdir) / "config.json"
    record = read_json(path, FORMAT_VERSION, CheckpointError, f"is {workdir} a run directory?")
    try:
        config, data_dir = from_json(record["config"]), open_path(record["data_dir"], is_used=False)
        train_pairs = {pair: number for pair, number in record["train_pairs"].items() if number}
        origin = Origin(**record["init_from"]) if record.get("init_from") else None
        earlier, former = _read_earlier(workdir, record)
        former = {pair: number for pair, number in former.items() if pair not in train_pairs}
        fingerprint, pairs = record["data_fingerprint"], train_pairs | former
        return Run(config, data_dir, fingerprint, pairs, origin, earlier, frozenset(former))
    except (KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{path}: incomplete ({error!r}); restore the file as gshard-train wrote it"
        ) from None


def check_workdir(workdir: pathlib.Path) -> None:
    """Raises CheckpointError for a file, and for a folder of files that are not a run's."""
    accepted = "a run directory, or a new or empty folder"
    if not workdir.is_dir():
        if workdir.exists():
            raise CheckpointError(f"{workdir}: found a file, accepted as --workdir: {accepted}")
        return
    names = sorted(path.name for path in workdir.iterdir())
    strangers = [
        name for name in names if name not in _LEFT_BY_RUNS and not _NO_STRANGERS.fullmatch(name)
    ]
    if strangers and "config.json" not in names:
        raise CheckpointError(
            f"{workdir}: found {strangers[0]}, which is not of a run, accepted as --workdir: "
            f"{accepted}"
        )


def _read_earlier(
    workdir: pathlib.Path, record: dict[str, Any]
) -> tuple[tuple[EarlierData, ...], dict[str, int]]:
    """Returns the data that a run has left, and the training pairs of their languages."""
    directories = record.get("earlier_data_dirs", {})  # older versions have none
    found: dict[str, EarlierData] = {}
    train_pairs: dict[str, int] = {}
    for mixture in read_mixtures(workdir):
        train_pairs |= {pair: number for pair, number in mixture.train_pairs.items() if number}
        if mixture.data != record["data_fingerprint"]:
            place = directories.get(mixture.data)
            directory = None if place is None else open_path(place, is_used=False)
            found[mixture.data] = EarlierData(mixture.data, mixture.last_step, directory)
    return tuple(found.values()), train_pairs


def start_run(
    workdir: pathlib.Path, run: Run, change_mixture: bool = False, is_writer: bool = True
) -> bool:
    """Writes `config.json`, unless the run there is another one; returns whether the run is new.

    Raises ConfigError with the differing keys, CheckpointError if the data differ or if the
    directory has a run without `config.json`. `change_mixture` accepts other data and other keys of
    the mixture, if the tokenizer is the same. With several processes only the writer writes; all
    of them check.
    """
    path = pathlib.Path(workdir) / "config.json"
    is_new = not path.exists()
    directories = {}
    if is_new:
        _check_no_run(path)
    else:
        old = read_run(workdir)
        _check_same(path, old, run, change_mixture)
        directories = json.loads(path.read_bytes()).get("earlier_data_dirs", {})
        directories |= {old.data_fingerprint: str(old.data_dir)}
        directories.pop(run.data_fingerprint, None)
    if not is_writer:
        return is_new
    record = {
        "format_version": FORMAT_VERSION,
        "config": to_json(run.config),
        "data_dir": str(run.data_dir.resolve()),
        "data_fingerprint": run.data_fingerprint,
        "train_pairs": run.train_pairs,
        "earlier_data_dirs": directories,  # by fingerprint; mixtures.jsonl says until when
        "init_from": run.origin and run.origin._asdict(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    # The run keeps the tokenizer, so that it can translate without its data.
    tokenizer = local_folder(run.data_dir / "tokenizer")
    shutil.copytree(tokenizer, path.parent / "tokenizer", dirs_exist_ok=True)
    write_json(path, record, indent=2)
    push_changes(path.parent)
    return is_new


def saved_steps(workdir: pathlib.Path) -> list[int]:
    """Returns the steps whose checkpoints are finished, without reading them."""
    names = [path.name for path in pathlib.Path(workdir).glob("checkpoints/*")]
    return sorted(int(name) for name in names if name.isdigit())


@contextlib.contextmanager
def lock_run(workdir: pathlib.Path, log: Callable[[str], None]) -> Iterator[None]:
    """Locks a run directory against other processes that train; the lock ends with the process.

    Raises CheckpointError if another process holds it. Logs if the file system has no locks. What a
    run in a bucket has written is there when its lock is given back.
    """
    if mirror := find_mirror(workdir):
        mirror.lock = BucketLock(mirror.remote, log)
        try:
            yield
        finally:
            try:
                mirror.finish()
            finally:
                mirror.lock.release()
                mirror.lock = None
        return
    path = pathlib.Path(workdir) / "lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise CheckpointError(
                f"{workdir}: another gshard-train uses it ({file.read().strip()}); stop that one "
                "or give another --workdir"
            ) from None
        except OSError as error:
            log(
                f"no lock     {workdir}: its file system has no locks ({error.strerror}); "
                "make sure that no other gshard-train uses it"
            )
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield


def _check_no_run(path: pathlib.Path) -> None:
    """Raises CheckpointError if a run has left more than its tokenizer, which is written first."""
    for name in _LEFT_BY_RUNS:
        left = path.parent / name
        is_there = left.is_file() or (left.is_dir() and any(left.iterdir()))
        if is_there and not path.exists():  # written by another process meanwhile
            raise CheckpointError(
                f"{path.parent}: found {name}, but no {path.name}, which says of which run; "
                f"restore {path.name} or give another --workdir"
            )


def _check_same(path: pathlib.Path, old: Run, new: Run, change_mixture: bool) -> None:
    differing = [
        key
        for key in differing_keys(old.config, new.config)
        if key not in FREE_KEYS
        and not key.startswith(FREE_SECTIONS)
        and not (key == "train.num_steps" and _may_train_longer(path.parent, old, new))
        and not (key == "train.stages" and _may_change_stages(path.parent, old, new))
        and (key in ROW_LENGTHS or not is_of_prepared_data(key))
        and not (change_mixture and _belongs_to_mixture(key))
    ]
    if differing:
        found, expected = (get_value(each.config, differing[0]) for each in (new, old))
        may_change = ", ".join([*sorted(FREE_KEYS), *(f"{section}*" for section in FREE_SECTIONS)])
        may_change += ", and train.num_steps may grow in a finished run"
        flag = ", --change_mixture" if all(map(_belongs_to_mixture, differing)) else ""
        raise ConfigError(
            f"{path}: this run has another config: {', '.join(differing)} "
            f"({differing[0]}: found {found!r}, the run has {expected!r}); "
            f"give the run's own values{flag} or another --workdir (with --init_from={path.parent} "
            f"to begin with this run's parameters). May change: {may_change}"
        )
    if old.data_fingerprint != new.data_fingerprint:
        if not change_mixture:
            raise CheckpointError(
                f"{path}: this run was trained on other prepared data ({old.data_dir}); found "
                f"{new.data_dir}: give the same data, --change_mixture to continue with these, or "
                "another --workdir"
            )
        _check_tokenizer(path.parent / "tokenizer", new.data_dir / "tokenizer")


def _may_train_longer(workdir: pathlib.Path, old: Run, new: Run) -> bool:
    if new.config.train.schedule in SCHEDULES_WITHOUT_END:
        return True
    is_finished = max(saved_steps(workdir), default=0) >= old.config.train.num_steps
    return is_finished and new.config.train.num_steps > old.config.train.num_steps


def _may_change_stages(workdir: pathlib.Path, old: Run, new: Run) -> bool:
    last = max(saved_steps(workdir), default=0)
    return have_same_past(old.config.train.stages, new.config.train.stages, last)


def _belongs_to_mixture(key: str) -> bool:
    return key == "train.stages" or (key.startswith("data.") and key not in FIXED_DATA_KEYS)


def _check_tokenizer(own: pathlib.Path, other: pathlib.Path) -> None:
    expected, found = (_hash_files(folder) for folder in (own, other))
    if found != expected:
        raise CheckpointError(
            f"{other}: found tokenizer {found[:12]}, the run has {expected[:12]} ({own}); "
            "accepted: data prepared with the run's tokenizer"
        )


def _hash_files(folder: pathlib.Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.model")):
        digest.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
