"""The lock of a run in a bucket: one process has it, and a dead one's is free."""
# SPDX-License-Identifier: Apache-2.0

import json
import subprocess
import sys

import pytest

from gshard_mt.errors import CheckpointError
from gshard_mt.run import bucket_lock
from gshard_mt.run.bucket_lock import BucketLock
from gshard_mt.storage.bucket_path import BucketPath

HOLD = """
import sys, time
from gshard_mt.run.bucket_lock import BucketLock
from gshard_mt.storage.bucket_path import open_path
lock = BucketLock(open_path(sys.argv[1]), print)
print("locked", flush=True)
time.sleep(600)
"""


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(bucket_lock, "RENEWED_EVERY", 0.05)
    monkeypatch.setattr(bucket_lock, "STALE_AFTER", 0.5)
    monkeypatch.setattr(bucket_lock, "_LOOKS_EVERY", 0.1)


def owner_elsewhere(bucket: BucketPath, number: int = 1, **changes) -> None:
    """What a process of another machine leaves, which does not renew it."""
    owner = {"host": "far", "place": "other", "process": 7, "began": "1", "renewed": 0}
    content = json.dumps(owner | {"is_done": False} | changes)
    (bucket / "locks" / f"{number:08}").write_text(content)


def test_the_owner_keeps_the_lock_until_it_gives_it_back(bucket):
    lock, said = BucketLock(bucket, print), []
    with pytest.raises(CheckpointError, match="another gshard-train uses it .process .* on "):
        BucketLock(bucket, said.append)
    assert len(said) == 1 and said[0].startswith("waiting")
    lock.check(is_certain=True)
    lock.release()
    second = BucketLock(bucket, said.append)
    assert len(said) == 1
    with pytest.raises(CheckpointError, match="taken over"):
        lock.check(is_certain=True)
    second.release()
    assert [path.name for path in (bucket / "locks").objects()] == ["00000002"]


def test_the_lock_of_a_killed_process_of_this_machine_is_free_at_once(bucket, monkeypatch):
    monkeypatch.setattr(BucketLock, "_is_stale", lambda *_: pytest.fail("it waits"))
    command = [sys.executable, "-c", HOLD, str(bucket)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stdout.readline() == "locked\n"
        process.kill()
    BucketLock(bucket, print).release()


def test_a_lock_that_is_not_renewed_is_taken_over_and_its_owner_notices(bucket):
    owner_elsewhere(bucket)
    lock = BucketLock(bucket, print)
    lock.check(is_certain=True)
    owner_elsewhere(bucket, 3)  # as if this process had slept and another had taken over
    with pytest.raises(CheckpointError, match="another gshard-train has taken over"):
        lock.check(is_certain=True)
    lock.release()
    content = json.loads((bucket / "locks" / "00000003").read_bytes())
    assert content["host"] == "far" and not content["is_done"]


def test_only_one_of_two_takes_a_free_lock(bucket, monkeypatch):
    owner_elsewhere(bucket, is_done=True)
    first = BucketLock(bucket, print)
    found_before = 1, {"is_done": True, "host": "far", "process": 7}
    with monkeypatch.context() as patch:
        patch.setattr(BucketLock, "_newest", lambda _: found_before)
        with pytest.raises(CheckpointError, match="another gshard-train uses it"):
            BucketLock(bucket, print)
    first.release()
