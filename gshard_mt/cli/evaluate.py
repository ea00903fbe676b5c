"""gshard-eval: translates held-out sentences and prints the table of scores per language."""
# SPDX-License-Identifier: Apache-2.0

import pathlib

from absl import flags

from gshard_mt.cli import flags as cli_flags
from gshard_mt.cli.startup.compilation import use_cache
from gshard_mt.cli.startup.memory import keep_buffers, largest_weight
from gshard_mt.config.records import decoding_mesh_shape
from gshard_mt.errors import ConfigError, DataError

_WORKDIR = flags.DEFINE_string("workdir", None, "The run directory.", required=True)
_STEP = flags.DEFINE_string(
    "step",
    "latest",
    "Which checkpoint: a step, latest, best (by train.best_by), or average: the mean of all kept.",
)
_SPLIT = flags.DEFINE_enum("split", "test", ["dev", "test"], "Which held-out sentences.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "The run's prepared data, if they have moved.")
_BASELINE = flags.DEFINE_string(
    "baseline",
    None,
    "Another run directory, whose checkpoint (best with --step=best, else its latest) translates "
    "the same sentences: the table has its BLEU, the difference and the p-value by pair.",
)
_BASELINE_HYPS = flags.DEFINE_string(
    "baseline_hyps",
    None,
    "Instead of --baseline a folder with any system's <pair>.hyp.txt, a line a sentence.",
)
_TESTSET = flags.DEFINE_multi_string(
    "testset",
    [],
    "Instead of --split any sentences: de-en=FILE.tsv (source TAB English), repeatable, or a "
    "recipe's test corpora. They are looked for in the training data.",
)
_LEAK_CHECK = flags.DEFINE_bool("leak_check", True, "Look for --testset in the training data.")
_METRICS = flags.DEFINE_list(
    "metrics", [], "Further metrics, as chrf++,ter,spbleu, and comet if it is installed."
)


def main(argv) -> None:
    """Writes hypotheses and tables under `eval/<step>/<split>/` and prints the table."""
    del argv
    from gshard_mt.run.directory import read_run

    workdir = pathlib.Path(_WORKDIR.value)
    run = read_run(workdir)
    data_dir = pathlib.Path(_DATA_DIR.value) if _DATA_DIR.value else run.data_dir

    if _BASELINE.value and _BASELINE_HYPS.value:
        raise ConfigError("--baseline_hyps: given with --baseline; accepted: one of them")
    other_dir = pathlib.Path(_BASELINE.value) if _BASELINE.value else None
    other = read_run(other_dir) if other_dir else None

    keep_buffers(max(largest_weight(each.config) for each in (run, other) if each))
    from gshard_mt.data.prepared import open_prepared
    from gshard_mt.decode.translate import load_translator
    from gshard_mt.evaluate import test_sets as testsets
    from gshard_mt.evaluate.evaluate import (
        Question,
        evaluate,
        files_as_baseline,
        run_as_baseline,
    )
    from gshard_mt.evaluate.scores import more_metric
    from gshard_mt.partitioning import mesh

    metrics = {name: more_metric(name) for name in _METRICS.value}
    test = testsets.read_test_set(_TESTSET.value) if _TESTSET.value else None
    prepared = None
    if test is None or _LEAK_CHECK.value:
        prepared = open_prepared(data_dir)
        if prepared.fingerprint != run.data_fingerprint:
            raise DataError(
                f"{data_dir}: not the data that {workdir} was trained on; give them with --data_dir"
            )
        test = test or testsets.held_out(prepared, _SPLIT.value)

    use_cache(workdir)
    mesh.simulate_cpu_devices(run.config.mesh.num_cpu_devices)
    grid = mesh.build_mesh(*decoding_mesh_shape(run.config))
    baseline = (
        files_as_baseline(pathlib.Path(_BASELINE_HYPS.value)) if _BASELINE_HYPS.value else None
    )
    if other_dir and other:
        step = "best" if _STEP.value == "best" else "latest"
        other_grid = mesh.build_mesh(*decoding_mesh_shape(other.config))
        baseline = run_as_baseline(other_dir, other, step, other_grid)
    translator = load_translator(workdir, run.config, _STEP.value, grid)
    leaks = {}
    if _TESTSET.value and prepared:
        leaks = testsets.find_leaks(test, prepared, translator.tokenizer)
    print(evaluate(workdir, run, translator, Question(test, leaks, baseline, metrics)), end="")


def entry() -> None:
    """The console script."""
    cli_flags.run(main)


if __name__ == "__main__":
    entry()
