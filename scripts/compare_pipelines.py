"""Prepares a config's data twice, locally and with Beam's DirectRunner, and compares what came out.

    python scripts/compare_pipelines.py [--config configs/smoke.py] [--runner DirectRunner]

Prints a JSON line a pipeline and one of the comparison; exit status 1 where they differ.
"""
# SPDX-License-Identifier: Apache-2.0

import argparse
import collections
import json
import pathlib
import subprocess
import sys
import tempfile
import time

from gshard_mt.data.corpora.entry import SPLITS
from gshard_mt.data.prepared import Prepared, open_prepared
from gshard_mt.data.tokenizer import load_tokenizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", default="configs/smoke.py")
    parser.add_argument("--runner", default="DirectRunner")
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="compare-pipelines-") as name:
        folder = pathlib.Path(name)
        options = {"local": [], flags.runner: [f"--runner={flags.runner}"]}
        prepared = [_prepare(flags.config, folder / key, options[key]) for key in options]
        difference = _compare(*prepared)
    print(json.dumps(difference))
    sys.exit(any(difference["differ"].values()))


def _prepare(config: str, data_dir: pathlib.Path, options: list[str]) -> Prepared:
    command = [sys.executable, "-m", "gshard_mt.cli.prepare_data", "--config", config]
    start = time.monotonic()
    done = subprocess.run(
        [*command, "--data_dir", str(data_dir), *options], stdout=subprocess.DEVNULL
    )
    if done.returncode:
        sys.exit(done.returncode)
    seconds = round(time.monotonic() - start, 1)
    print(json.dumps({"pipeline": data_dir.name, "seconds": seconds}), flush=True)
    return open_prepared(data_dir)


def _compare(left: Prepared, right: Prepared) -> dict:
    """Returns how many pairs there are, and in which respects the two differ."""
    pairs = _pairs(left), _pairs(right)
    files = _files(left.directory), _files(right.directory)
    names = {name for each in files for name in each}
    return {
        "pairs": sum(sum(splits.values()) for splits in left.num_examples.values()),
        "drops": sum(sum(info["drops"].values()) for info in left.manifest["pairs"].values()),
        "files": len(names),
        "differ": {
            "pairs": ((pairs[0] - pairs[1]) + (pairs[1] - pairs[0])).total(),
            "counts": left.manifest["pairs"] != right.manifest["pairs"],
            "files": sorted(name for name in names if files[0].get(name) != files[1].get(name)),
        },
    }


def _pairs(prepared: Prepared) -> collections.Counter:
    """Returns the multiset of (pair, split, source, English), decoded."""
    tokenizer = load_tokenizer(prepared.directory)
    found: collections.Counter = collections.Counter()
    for pair in prepared.language_pairs:
        for split in SPLITS:
            if prepared.num_examples[pair][split]:
                reader = prepared.reader(pair, split)
                records = reader.read(range(len(reader)))
                sources = tokenizer.source.decode([record.source.tolist() for record in records])
                english = tokenizer.target.decode([record.target.tolist() for record in records])
                found.update((pair, split, *texts) for texts in zip(sources, english, strict=True))
            if split != "train":
                references = prepared.references(pair, split)
                found.update((pair, f"{split} references", *texts) for texts in references)
    return found


def _files(folder: pathlib.Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


if __name__ == "__main__":
    main()
