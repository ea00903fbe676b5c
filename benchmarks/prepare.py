"""Speed and memory of gshard-prepare-data on synthetic pairs of 40 languages, at any size.

    python -m benchmarks.prepare [--pairs 200000 2000000] [--languages 40] [--words 15] [...]

Prints one JSON row per size. The command runs in a process of its own; its memory is that of the
whole process tree without the vocabulary trainer. `ratio_to_encoding` is its speed relative to
SentencePiece alone encoding the same lines with the models of this run on all cores;
`ratio_without_vocabulary` excludes the trainer's time, which is the same for any large corpus.
"""
# SPDX-License-Identifier: Apache-2.0

import argparse
import contextlib
import itertools
import json
import os
import pathlib
import sys
import tempfile
import time
from collections.abc import Iterator

import absl.flags
import sentencepiece

from benchmarks.machine import describe_machine
from benchmarks.process_tree import Usage, run_and_watch
from benchmarks.synthetic import language_sizes, read_phrases, write_corpus

_MIB = 1 << 20
_BLOCK = 20_000  # pairs per call of SentencePiece
_ENCODED = 2_000_000  # at most, in blocks spread evenly over the corpus


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, nargs="+", default=[200_000, 2_000_000])
    parser.add_argument("--languages", type=int, default=40)
    parser.add_argument("--words", type=float, default=15, help="mean English words of a pair")
    parser.add_argument(
        "--num_workers", type=int, default=0, help="0: as many as the command chooses"
    )
    parser.add_argument("--folder", type=pathlib.Path, help="where the text is written and kept")
    parser.add_argument(
        "--override", nargs="*", default=[], help="config overrides, data.KEY=VALUE"
    )
    options = parser.parse_args()
    absl.flags.FLAGS.mark_as_parsed()
    machine = describe_machine()
    with contextlib.ExitStack() as stack:
        folder = options.folder or pathlib.Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="prepare-"))
        )
        for num_pairs in options.pairs:
            row = {"benchmark": "prepare", "pairs": num_pairs, "languages": options.languages}
            row |= {"words": options.words, "num_workers": options.num_workers}
            text = folder / f"text-{num_pairs}-{options.languages}-{options.words:g}"
            _write_text(text, num_pairs, options)
            with tempfile.TemporaryDirectory(prefix="prepared-", dir=folder) as data_dir:
                row |= _measure(text, pathlib.Path(data_dir), num_pairs, options)
            print(json.dumps(row | machine), flush=True)


def _write_text(text: pathlib.Path, num_pairs: int, options: argparse.Namespace) -> None:
    if not (text / "recipe.toml").exists():  # written last
        print(f"writing {num_pairs} pairs to {text}", file=sys.stderr)
        phrases = read_phrases(options.languages)
        write_corpus(text, phrases, language_sizes(num_pairs, len(phrases)), options.words)


def _measure(
    text: pathlib.Path, data_dir: pathlib.Path, num_pairs: int, options: argparse.Namespace
) -> dict:
    settings = {
        "data.recipe": text / "recipe.toml",
        "data.source_vocab_size": 32_000,
        "data.target_vocab_size": 8_000,  # the catalogue has words for 13,000
        "data.source_length": 256,
        "data.target_length": 256,
    }
    if options.num_workers:
        settings["data.num_workers"] = options.num_workers
    config = pathlib.Path(__file__).parents[1] / "configs" / "smoke.py"
    command = [sys.executable, "-m", "gshard_mt.cli.prepare_data", "--config", str(config)]
    command += [f"--config.{key}={value}" for key, value in settings.items()]
    command += [f"--config.{each}" for each in options.override]
    command += ["--data_dir", str(data_dir)]
    print(" ".join(command), file=sys.stderr)
    mark = data_dir / "tokenizer" / ".training"  # holds the trainer's process id while it runs
    usage = run_and_watch(command, text / "prepare.log", mark)
    manifest = json.loads((data_dir / "manifest.json").read_text(encoding="utf-8"))
    encoding_speed = _encoding_speed(text, data_dir / "tokenizer", num_pairs)
    stages = _stages(usage)
    trained = stages["seconds_vocabulary"] or 0.0
    return {
        "kept": sum(pair["train"]["pairs"] for pair in manifest["pairs"].values()),
        "seconds": usage.seconds,
        **stages,
        "pairs_per_second": num_pairs / usage.seconds,
        "memory_measure": usage.measure,
        "peak_mib": usage.peak / _MIB,
        "rss_peak_mib": usage.rss_peak / _MIB,
        "vocabulary_peak_mib": usage.marked_peak / _MIB,
        "largest_process_mib": usage.largest / _MIB,
        "encoding_pairs_per_second": encoding_speed,
        "ratio_to_encoding": num_pairs / usage.seconds / encoding_speed,
        "ratio_without_vocabulary": num_pairs / (usage.seconds - trained) / encoding_speed,
    }


def _stages(usage: Usage) -> dict[str, float | None]:
    """Returns seconds before, in and after vocabulary training; None if no trainer was seen."""
    names = ("seconds_before_vocabulary", "seconds_vocabulary", "seconds_after_vocabulary")
    if not usage.marked:
        return dict.fromkeys(names)
    first, last = usage.marked[0], usage.marked[-1]
    return dict(zip(names, (first, last - first, usage.seconds - last), strict=True))


def _encoding_speed(text: pathlib.Path, tokenizer: pathlib.Path, num_pairs: int) -> float:
    """Returns pairs per second for encoding both sides, without reading and writing."""
    paths = sorted(tokenizer.glob("*.model"))  # one model where it is joint, else source, target
    models = [sentencepiece.SentencePieceProcessor(model_file=str(path)) for path in paths]
    cores, encoded, seconds = len(os.sched_getaffinity(0)), 0, 0.0
    stride = -(-num_pairs // _ENCODED)
    for block in itertools.islice(_blocks(text), 0, None, stride):
        sides = [list(side) for side in zip(*block, strict=True)]
        start = time.perf_counter()
        models[0].encode(sides[0], num_threads=cores)
        models[-1].encode(sides[1], num_threads=cores)
        seconds += time.perf_counter() - start
        encoded += len(block)
    return encoded / seconds


def _blocks(text: pathlib.Path) -> Iterator[list[list[str]]]:
    for path in sorted(text.glob("*.tsv")):
        with open(path, encoding="utf-8", newline="\n") as file:
            while lines := list(itertools.islice(file, _BLOCK)):
                yield [line[:-1].split("\t") for line in lines]


if __name__ == "__main__":
    main()
