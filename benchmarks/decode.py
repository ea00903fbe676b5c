"""Translation speed of models, greedy and with 4 beams, and of CTranslate2 and Marian.

python -m benchmarks.decode --tsv FILE --runs MODEL [MODEL ...] [--ctranslate2 FOLDER ...] \\
    [--marian FOLDER --pymarian PROGRAM]

FILE holds one source TAB reference per line. MODEL is a run or an export; the folders for
CTranslate2 are exports in its format. In each round every system translates FILE in turn. `seconds`
are those of a loaded translator with compiled programs (`compilations` counts those compiled
nevertheless), `seconds_with_start` those of a whole command, which finds its programs in
JAX_COMPILATION_CACHE_DIR if that is set. Marian's row (`model.npz`, `de.spm` and `en.spm` in
FOLDER) has only the latter. BLEU is cased.
"""
# SPDX-License-Identifier: Apache-2.0

import argparse
import dataclasses
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict

import absl.flags
import jax

from benchmarks.machine import describe_machine
from gshard_mt.decode.loading import load_translator
from gshard_mt.evaluate.scores import score
from gshard_mt.partitioning import mesh
from gshard_mt.run.exported import is_export, read_trained

_BEAMS = (1, 4)
_MARIAN = "--normalize 1 --mini-batch 64 --maxi-batch 100 --maxi-batch-sort src --quiet"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tsv", type=pathlib.Path, required=True)
    parser.add_argument("--runs", type=pathlib.Path, nargs="+", required=True)
    parser.add_argument("--step", default="latest")
    parser.add_argument("--batch_size", type=int, help="sentences per batch (default: the run's)")
    parser.add_argument("--ctranslate2", type=pathlib.Path, nargs="*", default=[])
    parser.add_argument("--marian", type=pathlib.Path)
    parser.add_argument("--pymarian", default="pymarian")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    absl.flags.FLAGS.mark_as_parsed()

    text = options.tsv.read_text(encoding="utf-8")
    pairs = [line.split("\t") for line in text.splitlines()]
    sources, references = [source for source, _ in pairs], [english for _, english in pairs]
    systems = [_Run(run, options, beam) for run in options.runs for beam in _BEAMS]
    systems += [_CTranslate2(each, beam) for each in options.ctranslate2 for beam in _BEAMS]
    systems += [_Marian(options, beam) for beam in _BEAMS] if options.marian else []
    for system in systems:  # everything is compiled here
        system.translate(sources)
        system.translate_in_a_command(sources)
    found = defaultdict(list)
    with _Compilations() as compilations:
        for _ in range(options.rounds):
            for number, system in enumerate(systems):
                before, start = compilations.count, time.perf_counter()
                hypotheses = system.translate(sources)
                seconds = time.perf_counter() - start
                compiled = compilations.count - before
                start = time.perf_counter()
                again = system.translate_in_a_command(sources)
                with_start = time.perf_counter() - start
                found[number].append((seconds, with_start, compiled, hypotheses or again))
    for number, system in enumerate(systems):
        seconds, with_start, compiled, hypotheses = zip(*found[number], strict=True)
        row = {"benchmark": "decode", **system.describe(), "sentences": len(sources)}
        row |= {"seconds_with_start": statistics.median(with_start)}
        if not isinstance(system, _Marian):
            row |= {"seconds": statistics.median(seconds), "compilations": sum(compiled)}
            row |= {"sentences_per_second": len(sources) / row["seconds"]}
        row |= {"bleu": score(hypotheses[-1], references).bleu, **describe_machine()}
        print(json.dumps(row), flush=True)


class _Run:
    def __init__(self, folder: pathlib.Path, options: argparse.Namespace, beam_size: int):
        run = read_trained(folder)
        changes = {"beam_size": beam_size}
        changes |= {"batch_size": options.batch_size} if options.batch_size else {}
        decode = dataclasses.replace(run.config.decode, **changes)
        config = dataclasses.replace(run.config, decode=decode)
        self._folder, self._step, self._beam_size = folder, options.step, beam_size
        mesh.simulate_cpu_devices(config.mesh.num_cpu_devices)
        self._translator = load_translator(folder, config, options.step)
        self._experts = config.model.moe.num_experts

    def describe(self) -> dict:
        name = {"system": "gshard-mt", "run": self._folder.name, "experts": self._experts}
        return name | {"beam": self._beam_size}

    def translate(self, sources: list[str]) -> list[str]:
        return self._translator.translate(sources)

    def translate_in_a_command(self, sources: list[str]) -> list[str]:
        command = [sys.executable, "-m", "gshard_mt.cli.translate"]
        command += ["--model" if is_export(self._folder) else "--workdir", self._folder]
        command += ["--step", self._step, "--beam_size", str(self._beam_size)]
        return _call([str(each) for each in command], sources)


class _CTranslate2:
    def __init__(self, folder: pathlib.Path, beam_size: int):
        from benchmarks import ctranslate2_lines  # an extra

        self._folder, self._beam_size = folder, beam_size
        self.translate = ctranslate2_lines.load(folder, beam_size)

    def describe(self) -> dict:
        return {"system": "ctranslate2", "run": self._folder.name, "beam": self._beam_size}

    def translate_in_a_command(self, sources: list[str]) -> list[str]:
        command = [sys.executable, "-m", "benchmarks.ctranslate2_lines", str(self._folder)]
        return _call([*command, str(self._beam_size)], sources)


class _Marian:
    def __init__(self, options: argparse.Namespace, beam_size: int):
        folder = options.marian
        self._beam_size = beam_size
        self._command = [options.pymarian, "decode", "--models", str(folder / "model.npz")]
        self._command += ["--vocabs", str(folder / "de.spm"), str(folder / "en.spm")]
        self._command += ["--beam-size", str(beam_size), "--cpu-threads", "2", *_MARIAN.split()]

    def describe(self) -> dict:
        return {"system": "marian", "beam": self._beam_size}

    def translate(self, sources: list[str]) -> list[str]:
        return []

    def translate_in_a_command(self, sources: list[str]) -> list[str]:
        return _call(self._command, sources)


class _Compilations:
    """Counts the programs that XLA compiles."""

    def __enter__(self) -> "_Compilations":
        self.count = 0
        jax.monitoring.register_event_duration_secs_listener(self._count)
        return self

    def __exit__(self, *error) -> None:
        jax.monitoring.clear_event_listeners()

    def _count(self, event: str, duration_secs: float, **kwargs) -> None:
        self.count += event == "/jax/core/compile/backend_compile_duration"


def _call(command: list[str], sources: list[str]) -> list[str]:
    with tempfile.TemporaryFile() as file:
        file.write("".join(f"{source}\n" for source in sources).encode())
        file.seek(0)
        done = subprocess.run(command, stdin=file, capture_output=True, check=True)
    return done.stdout.decode().splitlines()


if __name__ == "__main__":
    main()
