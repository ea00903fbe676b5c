"""The compilation cache: programs that XLA made at an earlier start are read, not made again."""
# SPDX-License-Identifier: Apache-2.0

import os
import pathlib

from absl import flags

from gshard_mt.errors import ConfigError

_COMPILATION_CACHE = flags.DEFINE_string(
    "compilation_cache",
    None,
    "The folder that keeps compiled programs for the next start, one that all processes see; by "
    "default .compilation_cache beside the run directory, empty for none.",
)


def use_cache(workdir: pathlib.Path) -> None:
    """Has JAX keep compiled programs in the folder of the flag. To be called before it compiles.

    Programs are found by what they compute, the devices, the processor's features and the version
    of jaxlib, so many runs can share a folder. Of many processes the first writes. What can't be
    read is compiled; a default folder that can't be written is done without.
    """
    import jax

    folder = _COMPILATION_CACHE.value
    if folder == "":
        jax.config.update("jax_enable_compilation_cache", False)
        return
    default = os.environ.get("JAX_COMPILATION_CACHE_DIR") or workdir / ".." / ".compilation_cache"
    path = pathlib.Path(os.path.abspath(folder or default))
    nearest = next(place for place in (path, *path.parents) if place.exists())
    if not (nearest.is_dir() and os.access(nearest, os.W_OK)):
        if folder is None:
            return
        raise ConfigError(
            f"--compilation_cache: can't write into {path}; accepted: a folder, empty for none"
        )
    jax.config.update("jax_compilation_cache_dir", str(path))
    # All, not those that happened to take a second: the same start then finds every one.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
