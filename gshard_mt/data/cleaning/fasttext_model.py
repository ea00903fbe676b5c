"""fastText models: the label probabilities of many lines at once, from a model's file.

fastText's own library takes one line at a time and looks up the n-grams of a word whenever it
occurs, which takes nearly all of its time. Here the vectors of words are kept. The probabilities
are the same but for rounding. Follows fastText 0.9: src/dictionary.cc, src/loss.cc,
src/productquantizer.cc in https://github.com/facebookresearch/fastText.
"""
# SPDX-License-Identifier: Apache-2.0

import collections
import itertools
import pathlib
from collections.abc import Sequence

import numpy as np

from gshard_mt.data.cleaning.fasttext_file import END, FasttextFile, read_fasttext

_KEPT_WORDS = 1 << 16
_LINES = 1024  # computed at once: fits in a processor's cache

_SHORTEST, _LONGEST = 2, 4  # characters of an n-gram
_MOST_BYTES = 4  # of a character in UTF-8
_LARGE = np.float32(80)  # a score of which the exponential is finite
_EPSILON = np.float32(1e-5)  # fastText adds it to each probability


class FasttextModel:
    """A quantized model with hierarchical softmax, such as lid.176.ftz.

    The result for a line does not depend on other lines.
    """

    def __init__(self, path: pathlib.Path):
        content = read_fasttext(path)
        self.labels = content.labels
        self._words = _Words(content)
        self._output = content.output
        self._children = _huffman_tree(content.counts)
        self._paths = _paths(self._children, self.labels)

    def hidden(self, lines: Sequence[str]) -> np.ndarray:
        """Returns the hidden vector of each line, (dim, lines) float32."""
        parts = [lines[start : start + _LINES] for start in range(0, len(lines), _LINES)]
        none = np.zeros((self._output.shape[1], 0), np.float32)
        return np.concatenate([none, *map(self._words.average, parts)], axis=1)

    def probability(self, label: str, hidden: np.ndarray) -> np.ndarray:
        """Returns the probability of one label for each hidden vector, float32."""
        found = np.ones(hidden.shape[1], np.float32)
        for node, is_right in self._paths[label]:
            left, right = _probabilities(self._output[node : node + 1], hidden)
            found *= right[0] if is_right else left[0]
        return found

    def probabilities(self, hidden: np.ndarray) -> np.ndarray:
        """Returns the probability of each label for each hidden vector, (labels, lines) float32."""
        num_labels = len(self.labels)
        left, right = _probabilities(self._output, hidden)
        found = np.empty((num_labels + len(right), hidden.shape[1]), np.float32)
        found[-1] = 1  # the root
        for node in range(len(right) - 1, -1, -1):
            one, other = self._children[node]
            np.multiply(found[num_labels + node], left[node], out=found[one])
            np.multiply(found[num_labels + node], right[node], out=found[other])
        return found[:num_labels]


class _Words:
    """The sums of the rows of words, and how many rows these are; computed once for most words."""

    def __init__(self, content: FasttextFile):
        self._content = content
        self._end = np.append(content.rows[content.words[END]], np.float32(1))
        self._forget()

    def average(self, lines: Sequence[str]) -> np.ndarray:
        """Returns the mean of all rows of each line, (dim, lines)."""
        text = f" {END} ".join([*lines, ""])
        if text.count(END) > len(lines):
            text = f" {END} ".join([*(line.replace(END, " ") for line in lines), ""])
        words = text.split()
        places = self._look_up(words)
        if len(self._known) > _KEPT_WORDS:
            self._forget()
            places = self._look_up(words)
        starts = np.append(0, np.flatnonzero(places == 0)[:-1] + 1)
        sums = np.add.reduceat(self._table[places], starts, axis=0).T
        return sums[:-1] / sums[-1]

    def _forget(self) -> None:
        self._known = collections.defaultdict(itertools.count(1).__next__, {END: 0})  # word -> row
        self._table = np.zeros((_KEPT_WORDS, len(self._end)), np.float32)
        self._table[0] = self._end

    def _look_up(self, words: list[str]) -> np.ndarray:
        """Returns the row of each word in the table, to which new words are added."""
        before = len(self._known)
        places = np.fromiter(map(self._known.__getitem__, words), np.int64, len(words))
        if num_new := len(self._known) - before:
            new = list(itertools.islice(reversed(self._known), num_new))[::-1]
            missing = max(0, len(self._known) - len(self._table))  # of very long lines
            more = np.zeros((missing, self._table.shape[1]), np.float32)
            self._table = np.concatenate([self._table, more]) if missing else self._table
            self._table[before : len(self._known)] = self._compute(new)
        return places

    def _compute(self, words: list[str]) -> np.ndarray:
        rows, place = _ngrams(words, self._content.row_of_bucket)
        whole = [self._content.words.get(word, -1) for word in words]
        is_known = np.array(whole) >= 0
        rows = np.concatenate([np.array(whole)[is_known], rows])
        place = np.concatenate([np.flatnonzero(is_known), place])
        order = np.argsort(place, kind="stable")
        rows, place = rows[order], place[order]
        found = np.zeros((len(words), self._table.shape[1]), np.float32)
        distinct, starts, counts = np.unique(place, return_index=True, return_counts=True)
        if len(distinct):
            found[distinct, :-1] = np.add.reduceat(self._content.rows[rows], starts, axis=0)
            found[distinct, -1] = counts
        return found


def _probabilities(weights: np.ndarray, hidden: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the probabilities to go left and right at inner nodes, (nodes, lines)."""
    # Not a matrix product, whose last bits depend on how many lines there are.
    scores = np.zeros((len(weights), hidden.shape[1]), np.float32)
    for weight, values in zip(weights.T, hidden, strict=True):
        scores += weight[:, None] * values
    right = 1 / (1 + np.exp(-np.clip(scores, -_LARGE, _LARGE)))
    return (1 - right) + _EPSILON, right + _EPSILON


def _ngrams(words: list[str], row_of_bucket: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the rows of the n-grams of words, and the place of each one's word."""
    text = "".join([f"<{word}>" for word in words]).encode("utf-8", "replace")
    codes = np.frombuffer(text + bytes(_MOST_BYTES), np.uint8)
    starts = np.flatnonzero((codes[: len(text)] & 0xC0) != 0x80)
    width = np.diff(np.append(starts, len(text)))
    lengths = np.fromiter(map(len, words), np.int64, len(words)) + 2
    ends = np.repeat(np.cumsum(lengths), lengths)  # of the word of each character
    place = np.repeat(np.arange(len(words)), lengths)
    number = np.arange(len(starts))
    # FNV-1a of 1 to _LONGEST characters from each on. fastText takes bytes for signed numbers.
    signed = codes.view(np.int8).astype(np.int32).view(np.uint32)
    key = np.full(len(starts), 2166136261, np.uint32)
    rows, places = [], []
    for size in range(1, _LONGEST + 1):
        last = np.minimum(number + size - 1, len(starts) - 1)
        for offset in range(int(width.max(initial=0))):
            byte = signed[starts[last] + offset]
            key = np.where(offset < width[last], (key ^ byte) * np.uint32(16777619), key)
        if size >= _SHORTEST:
            is_inside = number + size <= ends
            found = row_of_bucket[key[is_inside] % len(row_of_bucket)]
            rows.append(found[found >= 0])
            places.append(place[is_inside][found >= 0])
    return np.concatenate(rows), np.concatenate(places)


def _paths(
    children: Sequence[tuple[int, int]], labels: Sequence[str]
) -> dict[str, list[tuple[int, bool]]]:
    """Returns the way from the root to each label: inner nodes, and whether to go right."""
    parent = {}
    for node, (left, right) in enumerate(children):
        parent |= {left: (node, False), right: (node, True)}
    paths = {}
    for number, label in enumerate(labels):
        path, at = [], number
        while at in parent:
            path.append(parent[at])
            at = len(labels) + parent[at][0]
        paths[label] = path[::-1]
    return paths


def _huffman_tree(counts: Sequence[int]) -> list[tuple[int, int]]:
    """Returns the children of each inner node, the last of which is the root.

    Labels, with falling counts, are numbered first, then inner nodes.
    """
    weights: list[float] = list(counts)
    leaf, node = len(counts) - 1, len(counts)
    children: list[tuple[int, int]] = []
    for _ in range(len(counts) - 1):
        pair = []
        for _ in range(2):
            is_leaf = leaf >= 0 and (node >= len(weights) or weights[leaf] < weights[node])
            pair.append(leaf if is_leaf else node)
            leaf, node = (leaf - 1, node) if is_leaf else (leaf, node + 1)
        children.append((pair[0], pair[1]))
        weights.append(weights[pair[0]] + weights[pair[1]])
    return children
