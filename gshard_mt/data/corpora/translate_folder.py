"""A folder of line-aligned `<language>.<split>.txt`, in the layout of TFDS's TranslateFolder."""
# SPDX-License-Identifier: Apache-2.0

import pathlib
from collections.abc import Iterator

from gshard_mt.data.corpora.entry import Entry, Pair
from gshard_mt.data.corpora.files import bare_name
from gshard_mt.data.corpora.moses import aligned_lines
from gshard_mt.data.corpora.tags import ENGLISH, Tags
from gshard_mt.errors import DataError

# Names that others use for our splits.
SPLIT_NAMES = {
    "train": ("train",),
    "dev": ("dev", "validation", "valid", "val"),
    "test": ("test",),
}


def is_translate_folder(folder: pathlib.Path) -> bool:
    """Tells whether any file of the folder is named `<language>.<split>.txt`."""
    return any(_parse(path) for path in folder.iterdir())


def read_translate_folder(entry: Entry) -> Iterator[Pair]:
    """Yields the pairs of each wanted language; compressed files are expanded.

    Raises DataError if the split has no English, or another number of lines in a language.
    """
    tags, english, sources = Tags(entry.languages, entry.path), None, []
    files = [(*match, path) for path in sorted(entry.path.iterdir()) if (match := _parse(path))]
    for language, split, path in files:
        if split not in SPLIT_NAMES[entry.split]:
            continue
        if tags[language] == ENGLISH:
            english = path
        elif tags[language] is not None:
            sources.append((language, path))
        else:
            tags.pass_over(language)
    if english is None:
        splits = sorted({split for _, split, _ in files})
        raise DataError(
            f"{entry.path}: no English of the split {entry.split}; accepted: en.{entry.split}.txt; "
            f"found: {', '.join(splits[:12])}"
        )
    if not sources:
        raise tags.refusal()
    tags.tell("files")
    for tag, path in sources:
        for source_line, english_line in aligned_lines(path, english):
            yield Pair(tag, source_line, english_line)


def _parse(path: pathlib.Path) -> tuple[str, str] | None:
    """Returns (language, split) of `de.train.txt.gz`."""
    parts = bare_name(path).split(".")
    is_text = len(parts) == 3 and parts[2] == "txt" and path.is_file()
    return (parts[0], parts[1]) if is_text else None
