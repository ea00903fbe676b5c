"""gshard-eval: translates held-out sentences and prints BLEU and chrF for each language.

Usage:   gshard-eval --workdir RUN|--model EXPORT [--step STEP] [--split dev|test] [--baseline RUN]
             [--testset de-en=FILE.tsv|flores:devtest=FOLDER ...] [--perturb NAME,NAME]
             [--out FOLDER]
Example: gshard-eval --workdir run --step best
         gshard-eval --workdir run --testset de-en=news.tsv
         gshard-eval --workdir run --perturb upper_case,typos

Translations, tables and a report are written to RUN/eval/STEP/SPLIT. Several processes share the
sentences (docs/many_hosts.md).
"""
# SPDX-License-Identifier: Apache-2.0

import functools
import importlib
import shlex
import sys
import threading

from absl import flags

from gshard_mt.cli import flags as cli_flags
from gshard_mt.cli.startup.start import start_crew
from gshard_mt.errors import ConfigError
from gshard_mt.storage.bucket_path import open_path

_read_folder = cli_flags.define_model()
_STEP = cli_flags.define_step()
_set_decode = cli_flags.define_decode()
_SPLIT = flags.DEFINE_enum("split", "test", ["dev", "test"], "Held-out sentences to translate.")
_DATA_DIR = flags.DEFINE_multi_string(
    "data_dir",
    [],
    "The run's prepared data, if they were moved since training. Of a run that went on with other "
    "data, repeatable: --split is that of the first ones, and all are searched for leaks.",
)
_BASELINE = flags.DEFINE_string(
    "baseline",
    None,
    "Another run directory or exported model. It (a run's best checkpoint with --step=best, else "
    "the latest) translates the same sentences, and the table adds its BLEU, the difference and a "
    "p-value.",
)
_BASELINE_HYPS = flags.DEFINE_string(
    "baseline_hyps",
    None,
    "Instead of --baseline: a folder with the translations of any other system, one file "
    "<pair>.hyp.txt for each language pair, one line for each sentence.",
)
_TESTSET = flags.DEFINE_multi_string(
    "testset",
    [],
    "Instead of --split: your own test set, de-en=FILE.tsv (source TAB English), repeatable; or a "
    "recipe (TOML) with test corpora; or a published set: flores:devtest=FOLDER, ntrex=FOLDER, "
    "wmt24++=FOLDER, or one that sacreBLEU fetches, such as wmt14.",
)
_OUT = flags.DEFINE_string(
    "out",
    None,
    "Folder to write eval/STEP/SPLIT into, instead of the run directory or the exported model.",
)
_LEAK_CHECK = flags.DEFINE_bool(
    "leak_check",
    True,
    "Count the sentences that are in the training data: those of --testset, and those of --split "
    "in other data that the run was trained on.",
)
_METRICS = flags.DEFINE_list(
    "metrics",
    [],
    "More metrics: chrf++, ter, spbleu, comet or comet:MODEL, a name or a checkpoint "
    "(docs/evaluation.md says how to install its program).",
)
_PERTURB = flags.DEFINE_list(
    "perturb",
    [],
    "Also score the same sentences perturbed, each kind beside the plain ones: upper_case, "
    "title_case, typos, no_final_punctuation, placeholders (docs/evaluation.md).",
)


def main() -> None:
    """Writes hypotheses and tables under `eval/<step>/<split>/` and prints the table."""
    from gshard_mt.evaluate.folder import check_writable
    from gshard_mt.run.exported import is_export, read_trained
    from gshard_mt.run.mirror import open_folder

    folder = _read_folder()
    run = read_trained(folder)
    run = run._replace(config=_set_decode(run.config))
    _check(is_export(folder))
    out = open_folder(_OUT.value) if _OUT.value else None
    check_writable(out or folder)
    other_dir = open_folder(_BASELINE.value) if _BASELINE.value else None
    other = read_trained(other_dir) if other_dir else None

    with start_crew(folder, run.config) as crew:
        from gshard_mt.evaluate import test_sets as testsets
        from gshard_mt.evaluate.evaluate import Place, evaluate, files_as_baseline, translate_all
        from gshard_mt.evaluate.scores import extra_metrics
        from gshard_mt.evaluate.table import beside, to_text

        metrics = extra_metrics(_METRICS.value)
        test, training_data = testsets.open_test_set(
            _TESTSET.value or [_SPLIT.value], run, folder, _DATA_DIR.value, _LEAK_CHECK.value
        )
        perturbed = [testsets.perturbed(test, name) for name in dict.fromkeys(_PERTURB.value)]
        # The report needs matplotlib, which another thread imports while the devices translate.
        figures = "gshard_mt.evaluate.figures"
        threading.Thread(target=importlib.import_module, args=(figures,)).start()
        translator, baseline = crew.load(folder, run.config, _STEP.value), None
        if _BASELINE_HYPS.value:
            baseline = files_as_baseline(open_path(_BASELINE_HYPS.value))
        if other_dir and other:
            step = "best" if _STEP.value == "best" else "latest"
            loaded = crew.load(other_dir, other.config, step)
            baseline = functools.partial(translate_all, loaded, name="baseline")
        place = Place(folder, out, shlex.join(["gshard-eval", *sys.argv[1:]]))
        leaks = testsets.find_leaks(test, training_data, translator.tokenizer)
        tables = [evaluate(place, translator, test, leaks, baseline, metrics)]
        print(to_text(tables[0]), end="")
        for each in perturbed:
            tables.append(evaluate(place, translator, each, {}, baseline, metrics))
        if perturbed:
            print(f"\n{beside(tables)}", end="")


def _check(is_exported: bool) -> None:
    """Raises ConfigError for flags that exclude each other, or one that an export needs."""
    for flag in (_BASELINE, _PERTURB):
        if flag.value and _BASELINE_HYPS.value:
            raise ConfigError(f"--baseline_hyps: given with --{flag.name}; accepted: one of them")
    needs_data = not _TESTSET.value or _LEAK_CHECK.value
    if is_exported and needs_data and not _DATA_DIR.value:
        raise ConfigError(
            "--data_dir: missing with --model; accepted: the data that the model was trained on, "
            "or --testset with --noleak_check"
        )


entry = cli_flags.command(main)
