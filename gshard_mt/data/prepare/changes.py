"""Changes: finds corpus files that were edited after their text was prepared."""
# SPDX-License-Identifier: Apache-2.0

import pathlib
from collections.abc import Iterator

from gshard_mt.config.records import DataConfig
from gshard_mt.data.corpora.readers import files_of, num_bytes
from gshard_mt.data.corpora.recipe import load_recipe
from gshard_mt.data.manifest import NAME, read_manifest
from gshard_mt.storage.bucket_path import find_paths, open_path


def describe_changes(config: DataConfig, data_dir: pathlib.Path) -> str:
    """Returns a line about files that are newer than prepared data or of another size; "" if none.

    The text itself is not compared: reading it takes as long as preparing it.
    """
    changed = list(dict.fromkeys(_changes(config, data_dir)))
    if not changed:
        return ""
    more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
    return (
        f"{data_dir}: {changed[0]}{more} changed after this was prepared, and text is not "
        "compared; to prepare it again, give another --data_dir or delete this one"
    )


def _changes(config: DataConfig, data_dir: pathlib.Path) -> Iterator[str]:
    prepared = (data_dir / NAME).stat().st_mtime_ns
    recipe, corpora = load_recipe(open_path(config.recipe)), read_manifest(data_dir)["recipe"]
    for entry, corpus in zip(recipe.entries, corpora["corpora"], strict=False):
        files = files_of(entry)  # none if they were deleted, which is no change
        newer = [path for path in files if _modified(path) > prepared]
        yield from map(str, newer)
        if files and not newer and corpus.get("bytes", num_bytes(entry)) != num_bytes(entry):
            yield f"{entry.scheme}:{entry.location}"
    for pattern in filter(None, (each.strip() for each in config.keep_out.split(","))):
        for path in find_paths(open_path(pattern)):
            if _modified(path) > prepared:
                yield str(path)


def _modified(path: pathlib.Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:  # gone since it was listed
        return 0
