"""The compilation cache: programs that XLA compiled in an earlier start are loaded from disk."""
# SPDX-License-Identifier: Apache-2.0

import os
import pathlib

from absl import flags

from gshard_mt.errors import ConfigError

_COMPILATION_CACHE = flags.DEFINE_string(
    "compilation_cache",
    None,
    "Folder that keeps compiled programs for later starts; all processes must see it. Default: "
    ".compilation_cache next to the run directory. Empty: no cache.",
)


def use_cache(workdir: pathlib.Path) -> None:
    """Has JAX keep compiled programs in the folder of the flag. Call it before anything compiles.

    Programs are keyed by what they compute, the devices, the processor's features and jaxlib's
    version, so many runs can share a folder. Only process 0 writes. An unreadable program is
    compiled again; if the default folder can't be written, there is no cache.
    """
    import jax

    folder = _COMPILATION_CACHE.value
    if folder == "":
        jax.config.update("jax_enable_compilation_cache", False)
        return
    default = os.environ.get("JAX_COMPILATION_CACHE_DIR") or workdir / ".." / ".compilation_cache"
    path = pathlib.Path(os.path.abspath(folder or default))
    nearest = next(each for each in (path, *path.parents) if each.exists())
    if not (nearest.is_dir() and os.access(nearest, os.W_OK)):
        if folder is None:
            return
        raise ConfigError(
            f"--compilation_cache: can't write into {path}; accepted: a folder, or "
            "empty for no cache"
        )
    jax.config.update("jax_compilation_cache_dir", str(path))
    # All of them, not only those that took a second: the next start then compiles nothing.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
