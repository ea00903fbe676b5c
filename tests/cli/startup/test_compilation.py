"""The compilation cache's folder: next to the run, named, or none."""
# SPDX-License-Identifier: Apache-2.0

import os
import pathlib
import subprocess
import sys
from types import SimpleNamespace

import jax
import pytest

from gshard_mt.cli.startup import compilation
from gshard_mt.errors import ConfigError

COMMAND = """
import pathlib, sys
from gshard_mt.cli import flags
from gshard_mt.cli.startup import compilation

def main():
    compilation.use_cache(pathlib.Path("runs/first"))
    import jax
    jax.jit(lambda x: x + 1)(1).block_until_ready()

entry = flags.command(main)
"""


MINIMA = ("persistent_cache_min_compile_time_secs", "persistent_cache_min_entry_size_bytes")
KEPT = ("enable_compilation_cache", "compilation_cache_dir", *MINIMA)


def setting(name: str):
    """A setting of JAX."""
    return getattr(jax.config, f"jax_{name}")


@pytest.fixture
def use_cache(monkeypatch, tmp_path):
    """Calls `use_cache` for a run in the current folder; JAX's settings are restored."""
    monkeypatch.chdir(tmp_path)
    kept = {name: setting(name) for name in KEPT}

    def call(flag: str | None, of_jax: str | None = None) -> None:
        monkeypatch.setattr(compilation, "_COMPILATION_CACHE", SimpleNamespace(value=flag))
        monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
        if of_jax:
            monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", of_jax)
        compilation.use_cache(pathlib.Path("runs/first"))

    yield call
    for name, value in kept.items():
        jax.config.update(f"jax_{name}", value)


def test_a_command_keeps_its_programs_next_to_the_run(tmp_path):
    (tmp_path / "command.py").write_text(COMMAND, encoding="utf-8")
    own = {"PYTHONPATH": str(pathlib.Path(__file__).parents[3]), "JAX_PLATFORMS": "cpu"}
    inherited = {key: os.environ[key] for key in os.environ if key != "JAX_COMPILATION_CACHE_DIR"}
    done = subprocess.run(
        [sys.executable, "command.py"], cwd=tmp_path, env=inherited | own, capture_output=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    folders = {str(path.parent.relative_to(tmp_path)) for path in tmp_path.rglob("*-cache")}
    assert folders == {"runs/.compilation_cache"}


@pytest.mark.parametrize(
    ("flag", "of_jax", "expected"),
    [
        (None, None, "runs/.compilation_cache"),
        ("named/it", None, "named/it"),
        ("named/it", "of_jax", "named/it"),
        (None, "of_jax", "of_jax"),
    ],
)
def test_the_flag_comes_before_jaxs_variable(use_cache, tmp_path, flag, of_jax, expected):
    use_cache(flag, of_jax)
    assert setting("compilation_cache_dir") == str(tmp_path / expected)
    assert [setting(name) for name in MINIMA] == [0.0, -1]


def test_an_empty_flag_is_no_cache(use_cache):
    use_cache("", "of_jax")
    assert not setting("enable_compilation_cache")


def test_a_folder_that_cant_be_one_is_one_line(use_cache, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="--compilation_cache: can't write into "):
        use_cache("file/cache")
