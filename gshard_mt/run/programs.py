"""Compiled programs: kept on disk in JAX's compilation cache, by default next to the run."""
# SPDX-License-Identifier: Apache-2.0

import os
import pathlib

import jax


def keep_programs(workdir: pathlib.Path, folder: str | None = None) -> bool:
    """Has JAX keep compiled programs in a folder; returns whether that can be written.

    The default is what `JAX_COMPILATION_CACHE_DIR` says, else `.compilation_cache` next to the run
    directory. Call it before anything compiles. Programs are keyed by what they compute, the
    devices, the processor's features and jaxlib's version, so many runs can share a folder. Only
    process 0 writes. An unreadable program is compiled again.
    """
    default = os.environ.get("JAX_COMPILATION_CACHE_DIR") or workdir / ".." / ".compilation_cache"
    path = pathlib.Path(os.path.abspath(folder or default))
    nearest = next(each for each in (path, *path.parents) if each.exists())
    if not (nearest.is_dir() and os.access(nearest, os.W_OK)):
        return False
    jax.config.update("jax_compilation_cache_dir", str(path))
    # All of them, not only those that took a second: the next start then compiles nothing.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return True
