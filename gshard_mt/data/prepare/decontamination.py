"""Decontamination: the keys of users' own test sets, whose sentences are kept out of training."""
# SPDX-License-Identifier: Apache-2.0

import itertools

import numpy as np

from gshard_mt.data.cleaning.clean import normalize_all
from gshard_mt.data.cleaning.fold import fold_all, hash_texts
from gshard_mt.data.corpora.text_lines import read_lines
from gshard_mt.errors import ConfigError
from gshard_mt.storage.bucket_path import find_paths, open_path

_BATCH = 10_000


def read_keep_out(patterns: str) -> np.ndarray:
    """Returns the sorted keys of all sentences of text files; each column of a line is one.

    `patterns` are paths or globs, separated by commas. Raises ConfigError if one matches no file.
    """
    keys = [np.zeros(0, np.uint64)]
    for pattern in filter(None, (each.strip() for each in patterns.split(","))):
        paths = find_paths(open_path(pattern))
        if not paths:
            raise ConfigError(
                f"data.keep_out: {pattern}: no such file; accepted: paths or globs of text files, "
                "separated by commas"
            )
        for path in paths:
            sentences = (column for _, line in read_lines(path) for column in line.split("\t"))
            while batch := list(itertools.islice(sentences, _BATCH)):
                keys.append(text_keys(batch))
    return np.unique(np.concatenate(keys))


def text_keys(texts: list[str]) -> np.ndarray:
    """Returns the key of each sentence, ignoring case, spaces and punctuation."""
    return hash_texts(fold_all([text for text in normalize_all(texts) if text]))
