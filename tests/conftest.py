"""Eight simulated CPU devices for every test, no network, and data made up once for all of them."""
# SPDX-License-Identifier: Apache-2.0

import asyncio
import dataclasses
import gc
import os
import pathlib
import sys

import pytest

from gshard_mt.config.records import DataConfig
from gshard_mt.data.prepare.prepare import prepare
from gshard_mt.data.prepared import Prepared, open_prepared
from gshard_mt.storage.bucket_path import BucketPath, open_path
from tests.making import buckets
from tests.making.made_up import write_made_up
from tests.no_network import sitecustomize  # noqa: F401 (from now on in this process)

# In every process that a test starts, too.
_NO_NETWORK = str(pathlib.Path(__file__).parent / "no_network")
os.environ["PYTHONPATH"] = os.pathsep.join(
    filter(None, (_NO_NETWORK, os.environ.get("PYTHONPATH")))
)

ONLY_IF_ASKED = ("soak", "browser")

gc.set_threshold(100_000, 50, 100)  # tracing makes many objects and few cycles

try:
    import jax
except ImportError:  # the data rooms and their tests run without JAX
    pass
else:
    jax.config.update("jax_num_cpu_devices", 8)  # before JAX is used for the first time
    # Most of the suite's time is compiling. LLVM's optimisation of what runs once is a third of it,
    # and XLA's newer emitters are a third of the rest, where the older ones still exist.
    flags = ["--xla_backend_optimization_level=0"]
    if jax.__version_info__ < (0, 11):
        flags.append("--xla_cpu_use_fusion_emitters=false")
    os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *flags])


def pytest_addoption(parser) -> None:
    parser.addoption("--soak", action="store_true", help="run the long form: `make soak`")
    parser.addoption("--browser", action="store_true", help="run what needs one: `make browser`")


def pytest_configure(config) -> None:
    for name in ONLY_IF_ASKED:
        config.addinivalue_line("markers", f"{name}: only in `make {name}`")


def pytest_collection_modifyitems(config, items) -> None:
    for name in ONLY_IF_ASKED:
        if not config.getoption(f"--{name}"):
            others = [item for item in items if item.get_closest_marker(name)]
            items[:] = [item for item in items if item not in others]
            config.hook.pytest_deselected(items=others)


@pytest.fixture(scope="session")
def soak(request) -> bool:
    """Whether tests run in their long form."""
    return request.config.getoption("--soak")


@pytest.fixture(scope="session", autouse=True)
def compiled(tmp_path_factory) -> pathlib.Path:
    """What a test or a process that it starts has compiled is not compiled again by the next."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # each has a folder in that of all
        folder = folder.parent
    folder = folder / "compiled"
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder)
    if "jax" in sys.modules:
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    return folder


@pytest.fixture(scope="session")
def config(tmp_path_factory) -> DataConfig:
    return write_made_up(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="session")
def prepared(config, tmp_path_factory) -> Prepared:
    data_dir = tmp_path_factory.mktemp("prepared")
    prepare(dataclasses.replace(config), data_dir)
    return open_prepared(data_dir)


@pytest.fixture(params=["gs", "s3"])
def bucket(request, monkeypatch, tmp_path) -> BucketPath:
    """An empty folder of a bucket, of each kind, that this process and those it starts can use."""
    for name, value in buckets.environment(request.param, buckets.server(request.param)).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("GSHARD_MT_CACHE", str(tmp_path / "cache"))
    folder = open_path(f"{request.param}://{buckets.BUCKET}/{tmp_path.name}")
    assert isinstance(folder, BucketPath)
    return folder


@pytest.fixture
def no_pauses(monkeypatch) -> None:
    """Requests to buckets are made again at once."""
    sleep = asyncio.sleep
    monkeypatch.setattr("asyncio.sleep", lambda *_: sleep(0))
    monkeypatch.setattr("gshard_mt.storage.stores._SHORTEST_PAUSE", 0.0)
