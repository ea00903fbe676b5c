"""gshard-prepare-data with a runner: one line where Apache Beam or the runner is missing."""
# SPDX-License-Identifier: Apache-2.0

import pathlib
import sys

import pytest

from tests.cli.calling import call, command, refused
from tests.making.made_up import write_made_up

_CONFIG = """
from gshard_mt.config.records import Config
def get_config():
    config = Config()
    config.data.recipe = {recipe!r}
    config.data.source_vocab_size = 330
    config.data.target_vocab_size = 290
    return config
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("corpus")
    (folder / "config.py").write_text(_CONFIG.format(recipe=write_made_up(folder).recipe))
    return folder / "config.py"


def test_a_runner_prepares_and_says_only_what_the_local_one_does(config, tmp_path):
    flags = ("--runner=DirectRunner", "--beam_options=--direct_num_workers=1")
    done = command("prepare_data", "--config", config, "--data_dir", tmp_path / "data", *flags)
    assert done.returncode == 0
    notes = done.stderr.decode().splitlines()  # what the filters make of text in no language
    assert [line.split(": ")[0] for line in notes] == [
        "corpus 1, de",
        "corpus 2, fr",
        "corpus 3, lb",
    ]
    assert done.stdout.decode().splitlines()[-1].endswith("report.md")


@pytest.mark.parametrize(
    ("arguments", "is_missing", "message"),
    [
        (["--runner=DirectRunner"], True, "error: --runner=DirectRunner: Apache Beam is not in"),
        (["--runner=Direct"], False, "error: --runner: found Direct; did you mean DirectRunner?"),
        (["--beam_options=--x=1"], False, "error: --beam_options: found without --runner"),
        (["--dask_scheduler=x"], True, "error: --dask_scheduler: Dask is not installed; pip in"),
        (["--dask_scheduler=x", "--runner=DirectRunner"], False, "error: --dask_scheduler: found"),
    ],
)
def test_what_is_missing_for_a_runner_is_one_line(
    config, tmp_path, monkeypatch, arguments, is_missing, message
):
    if is_missing:
        ours = ("gshard_mt.data.prepare.beam", "gshard_mt.data.prepare.dask")
        for name in [name for name in sys.modules if name.startswith(ours)]:
            monkeypatch.delitem(sys.modules, name)
        for name in ("apache_beam", "distributed"):
            monkeypatch.setitem(sys.modules, name, None)
    done = call("prepare_data", "--config", config, "--data_dir", tmp_path / "data", *arguments)
    assert refused(done).startswith(message)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--data_dir=hdfs://host/d"], "error: hdfs://host/d: found hdfs://; accepted: gs://, s3:"),
        (["--data_dir=gs:/bucket/d"], "error: gs:/bucket/d: found one slash; accepted: gs://buc"),
        (["--data_dir=s3://b/d", "--runner=X"], "error: --data_dir: found s3://b/d with --runner"),
        (["--data_dir=d", "--config.data.recipe=hdfs://r.toml"], "error: hdfs://r.toml: found hd"),
    ],
)
def test_what_is_no_place_for_data_is_refused_before_anything_is_made(
    arguments, said, config, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert refused(call("prepare_data", "--config", config, *arguments)).startswith(said)
    assert not list(tmp_path.iterdir())


def test_a_bucket_is_a_data_directory(bucket, config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for said in (b": prepared; see ", b": already prepared with these settings"):
        one = "--config.data.num_workers=1"
        done = call("prepare_data", "--config", config, "--data_dir", bucket, one)
        assert done.returncode == 0 and str(bucket).encode() + said in done.stdout, done.stderr
    assert (bucket / "report.md").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]
