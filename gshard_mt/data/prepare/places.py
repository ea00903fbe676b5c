"""Places: where prepared data are made, a local folder or a bucket by way of one."""
# SPDX-License-Identifier: Apache-2.0

import contextlib
import json
import pathlib
import shutil
import sys
from collections.abc import Callable
from typing import Any

from gshard_mt.data.manifest import (
    FORMAT_VERSION,
    NAME,
    check_same,
    claim_directory,
    is_prepared,
    lock_directory,
)
from gshard_mt.documents import read_json
from gshard_mt.errors import DataError
from gshard_mt.storage.bucket_path import BucketPath
from gshard_mt.storage.cache import stage_folder
from gshard_mt.storage.trees import upload_tree

Identity = dict[str, Any]
Make = Callable[[pathlib.Path], None]  # makes the data in a claimed local folder


def prepare_in_folder(data_dir: pathlib.Path, identity: Identity, make: Make) -> bool:
    """Makes data in a local folder unless they are there; returns whether they were."""
    with lock_directory(data_dir):
        if is_there := is_prepared(data_dir, identity):  # by the process that had the lock
            return is_there
        claim_directory(data_dir, identity)
        make(data_dir)
    return False


def prepare_in_bucket(data_dir: pathlib.Path, identity: Identity, make: Make) -> bool:
    """Makes data in a local folder unless they are in the bucket, uploads and removes them.

    The manifest, which says that they are whole, comes last. Data that were made but not uploaded
    by an interrupted command are there for the next one.
    """
    assert isinstance(data_dir, BucketPath)
    stage = stage_folder(f"{data_dir} {json.dumps(identity, sort_keys=True)}")
    with lock_directory(stage):
        if is_there := is_prepared(data_dir, identity):
            return is_there
        claim_directory(data_dir, identity)
        made = stage / "data"
        made.mkdir(exist_ok=True)
        prepare_in_folder(made, identity, make)
        print(f"{data_dir}: uploading", file=sys.stderr)
        upload_tree(made, data_dir, NAME, lambda: _check_upload(made, data_dir, identity))
        shutil.rmtree(made)
    with contextlib.suppress(OSError):  # another process is in it
        stage.rmdir()
    return False


def _check_upload(made: pathlib.Path, data_dir: BucketPath, identity: Identity) -> None:
    """Raises DataError unless the bucket holds the data that were made, and nothing else."""
    claim = read_json(data_dir / NAME, FORMAT_VERSION, DataError, "run it again")
    check_same(data_dir, claim, identity)
    wanted = {
        path.relative_to(made).as_posix(): path.stat().st_size
        for path in made.rglob("*")
        if path.is_file()
    }
    found = {
        path.relative_to(data_dir).as_posix(): info.num_bytes
        for path, info in data_dir.objects().items()
    }
    for name in sorted(wanted.keys() | found.keys() - {NAME}):
        if name != NAME and wanted.get(name) != found.get(name):
            raise DataError(
                f"{data_dir / name}: changed by another program during the upload; run it again"
            )
