"""gshard-prepare-data killed again and again, while it works and while it uploads to a bucket."""
# SPDX-License-Identifier: Apache-2.0

import dataclasses
import os
import pathlib
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterable

import pytest

from gshard_mt.data.manifest import read_manifest
from gshard_mt.data.prepare.prepare import prepare
from gshard_mt.errors import DataError
from gshard_mt.storage.bucket_path import BucketPath
from gshard_mt.storage.trees import remove_tree, upload_tree
from tests.making import buckets

CONFIG = """
from gshard_mt.config import Config
from gshard_mt.config.records import AugmentationConfig, CleaningConfig, DataConfig

def get_config():
    config = Config()
    config.data = {data!r}
    config.data.recipe = "text/recipe.toml"
    return config
"""


def start(bucket: BucketPath, environment: dict[str, str]) -> subprocess.Popen:
    words = ["--config", f"{bucket}/config.py", "--data_dir", f"{bucket}/data"]
    words = [sys.executable, "-m", "gshard_mt.cli.prepare_data", *words]
    pipe = subprocess.PIPE
    return subprocess.Popen(words, stdout=pipe, stderr=pipe, text=True, env=environment)


@pytest.mark.soak
def test_a_preparation_killed_again_and_again_ends_as_one_that_was_not(bucket, config, tmp_path):
    chance = random.Random(0)
    upload_tree(pathlib.Path(config.recipe).parent, bucket / "text")
    (bucket / "config.py").write_text(CONFIG.format(data=config))
    prepare(dataclasses.replace(config, recipe=f"{bucket}/text/recipe.toml"), tmp_path / "local")
    expected = files(tmp_path / "local", (tmp_path / "local").rglob("*.*"))
    scheme = bucket.parts[0][:2]
    kills = {"while it works": 0, "while it uploads": 0}
    with buckets.failing(buckets.server(scheme), rate=0.1) as url:
        environment = os.environ | buckets.environment(scheme, url)
        while min(kills.values()) < 3:
            process = start(bucket, environment)
            is_upload = kills["while it works"] >= 3
            end = time.monotonic() + chance.uniform(0.5, 8)
            while process.poll() is None:
                num_objects = len((bucket / "data").objects())
                is_late = num_objects <= 1 and time.monotonic() > end
                if num_objects > 2 + kills["while it uploads"] if is_upload else is_late:
                    process.send_signal(signal.SIGKILL)
                    break
            assert process.wait() in (0, -signal.SIGKILL), process.communicate()
            if is_finished(bucket / "data"):  # it was quicker
                assert files(bucket / "data", (bucket / "data").objects()) == expected
                remove_tree(bucket / "data")
                continue
            kills["while it uploads" if is_upload else "while it works"] += 1
        process = start(bucket, environment)
        said = process.communicate()
        assert process.returncode == 0, said
    assert files(bucket / "data", (bucket / "data").objects()) == expected


def is_finished(data_dir: BucketPath) -> bool:
    try:
        return bool(read_manifest(data_dir))
    except DataError:
        return False


def files(folder: pathlib.Path, paths: Iterable[pathlib.Path]) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
