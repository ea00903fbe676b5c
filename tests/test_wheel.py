"""The wheel made from the sdist is all that is needed: installed elsewhere, it trains."""
# SPDX-License-Identifier: Apache-2.0

import os
import pathlib
import shlex
import subprocess
import sys
import sysconfig
import tarfile
import venv

import pytest

ROOT = pathlib.Path(__file__).parents[1]
CONTENTS = """
import pathlib
import gshard_mt
from gshard_mt.config.load import load_config, starters
print(gshard_mt.__file__)
print(*starters())
print(*pathlib.Path(load_config("smoke").data.recipe).parent.glob("*.toml"))
"""


def run(folder: pathlib.Path, *words, **environment: str) -> str:
    """Returns what a command prints; it doesn't see this checkout."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        list(map(str, words)), cwd=folder, env=kept | environment, capture_output=True, timeout=600
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


@pytest.fixture(scope="module")
def scripts(tmp_path_factory) -> pathlib.Path:
    """The folder of the commands in an environment that has the wheel and our dependencies."""
    folder = tmp_path_factory.mktemp("wheel")
    run(ROOT, sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", folder)
    (sdist,) = folder.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    unpacked = folder / sdist.name.removesuffix(".tar.gz")
    run(unpacked, sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder)
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "env", symlinks=True)
    python = folder / "env" / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", python)
    run(folder, *pip, "install", "--quiet", "--no-index", "--no-deps", wheel)
    packages = run(folder, python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))")
    # Ours without what its .pth files add, which is this checkout.
    (pathlib.Path(packages.strip()) / "ours.pth").write_text(sysconfig.get_path("purelib"))
    return python.parent


def test_the_configs_and_recipes_are_in_the_wheel(scripts, tmp_path):
    package, names, recipes = run(tmp_path, scripts / "python", "-c", CONTENTS).splitlines()
    assert pathlib.Path(package).is_relative_to(scripts.parent)
    assert names.split() == sorted(path.stem for path in (ROOT / "configs").glob("*.py"))
    assert {pathlib.Path(path).name for path in recipes.split()} == {
        path.name for path in (ROOT / "data").glob("*.toml")
    }


def test_what_gshard_init_prints_leads_to_a_table_and_a_translation(scripts, tmp_path):
    printed = run(tmp_path, scripts / "gshard-init", "try")
    lines = [line.strip() for line in printed.splitlines() if line.startswith("    ")]
    assert lines[0] == "cd try"
    few = " --config.data.num_test=4 --config.train.num_steps=10 --config.train.save_every=10"
    text = "\n".join(["set -e", *lines]).replace(" --config config.py", f" --config config.py{few}")
    path = f"{shlex.quote(str(scripts))}{os.pathsep}{os.environ['PATH']}"
    said = run(tmp_path, "bash", "-c", text, PATH=path)
    assert (tmp_path / "try" / "run" / "checkpoints" / "10").is_dir()
    table, _, translation = said.rpartition("\nchrf: ")
    assert "\nde-en " in table and "\nfr-en " in table
    assert translation.count("\n") == 2
