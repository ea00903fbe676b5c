"""Overlap: which held-out sentences of new data a model was trained on before it got these data."""
# SPDX-License-Identifier: Apache-2.0

import pathlib

from gshard_mt.data.prepared import Prepared
from gshard_mt.data.tokenizer import load_tokenizer
from gshard_mt.errors import DataError
from gshard_mt.evaluate.test_sets import HELD_OUT, TestSet, find_leaks, open_training_data
from gshard_mt.run.directory import Run


def describe_overlap(prepared: Prepared, run: Run, folder: pathlib.Path) -> list[str]:
    """Returns a line for each split that has training text of the run in a folder, or one line.

    There is none if the run was trained on the same data alone.
    """
    own = prepared.fingerprint
    if run.data_fingerprint == own and not run.earlier:
        return []
    try:
        data = open_training_data(run, folder)
    except DataError as error:
        return [f"not compared with the training text of {folder}: {error}"]
    data = data._replace(found=[each for each in data.found if each.fingerprint != own])
    sentences = {
        (pair, split): prepared.references(pair, split)
        for split in HELD_OUT
        for pair, number in prepared.train_pairs.items()
        if number
    }
    test = TestSet("", {" ".join(key): lines for key, lines in sentences.items() if lines})
    if not test.pairs or not data.found:
        return []
    leaks = find_leaks(test, data, load_tokenizer(data.found[0].directory))
    lines = []
    for split in HELD_OUT:
        own = {key.split()[0]: leak for key, leak in leaks.items() if key.endswith(f" {split}")}
        named = [
            f"{pair} {leak.sources} sources and {leak.english} English of "
            f"{len(sentences[pair, split])}"
            for pair, leak in own.items()
            if leak.sources or leak.english
        ]
        if named:
            lines.append(f"{split} has training text of {folder}: {', '.join(named)}")
    return lines or [f"no sentence of dev and test is training text of {folder}"]
