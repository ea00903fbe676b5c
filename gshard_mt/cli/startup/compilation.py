"""The compilation cache: programs that XLA compiled in an earlier start are loaded from disk."""
# SPDX-License-Identifier: Apache-2.0

import os
import pathlib

from absl import flags

from gshard_mt.errors import ConfigError
from gshard_mt.storage.bucket_path import BucketPath, open_path

_COMPILATION_CACHE = flags.DEFINE_string(
    "compilation_cache",
    None,
    "Folder that keeps compiled programs for later starts; all processes must see it. Default: "
    ".compilation_cache next to the run directory. Empty: no cache.",
)


def use_cache(workdir: pathlib.Path) -> None:
    """Has JAX keep compiled programs in the folder of the flag. Call it before anything compiles.

    If the default folder can't be written, there is no cache.
    """
    import jax

    from gshard_mt.run.programs import keep_programs

    folder = _COMPILATION_CACHE.value
    if isinstance(open_path(folder or ""), BucketPath):
        raise ConfigError(
            f"--compilation_cache: found {folder}, in a bucket; accepted: a folder on a disk"
        )
    if folder == "":
        jax.config.update("jax_enable_compilation_cache", False)
    elif not keep_programs(workdir, folder) and folder is not None:
        raise ConfigError(
            f"--compilation_cache: can't write into {os.path.abspath(folder)}; accepted: a "
            "folder, or empty for no cache"
        )
