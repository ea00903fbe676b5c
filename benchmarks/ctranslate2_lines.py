"""Translates lines with an export in CTranslate2's format; imports nothing of this project.

python -m benchmarks.ctranslate2_lines FOLDER BEAMS < LINES
"""
# SPDX-License-Identifier: Apache-2.0

import os
import pathlib
import sys
from collections.abc import Callable

import ctranslate2
import sentencepiece


def load(folder: pathlib.Path, num_beams: int) -> Callable[[list[str]], list[str]]:
    """Returns what translates lines on all cores, 64 at a time."""
    source, target = (
        sentencepiece.SentencePieceProcessor(model_file=str(folder / f"{side}.model"))
        for side in ("source", "target")
    )
    use_vmap = (folder / "vmap.txt").exists()
    translator = ctranslate2.Translator(str(folder), intra_threads=os.cpu_count() or 1)

    def translate(lines: list[str]) -> list[str]:
        pieces = source.encode(lines, out_type=str)
        found = translator.translate_batch(
            pieces, beam_size=num_beams, max_batch_size=64, use_vmap=use_vmap
        )
        return [target.decode(each.hypotheses[0]) for each in found]

    return translate


if __name__ == "__main__":
    text = sys.stdin.read().splitlines()
    for line in load(pathlib.Path(sys.argv[1]), int(sys.argv[2]))(text):
        print(line)
