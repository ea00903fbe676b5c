"""gshard-compare: compares evaluations of several runs; no model is loaded.

Usage:   gshard-compare --eval RUN[/eval/STEP/SPLIT] --eval ... [--name NAME --name ...] --out DIR
Example: gshard-compare --eval one --eval two --out comparison
         gshard-compare --eval one/eval/2000/test --eval two/eval/2000/test --out comparison
"""
# SPDX-License-Identifier: Apache-2.0

import sys

from absl import flags

from gshard_mt.cli import flags as cli_flags
from gshard_mt.errors import ConfigError

_EVAL = flags.DEFINE_multi_string(
    "eval",
    None,
    "Evaluation written by gshard-eval: RUN/eval/STEP/SPLIT, or RUN for the newest one in it. Give "
    "two or more; each is compared with the first.",
    required=True,
)
_NAME = flags.DEFINE_multi_string(
    "name", [], "Name of each --eval in the tables, in their order (default: run directories)."
)
_OUT = flags.DEFINE_string(
    "out", None, "Folder for comparison.html, .md, .json and pictures/.", required=True
)


def main() -> None:
    """Writes `comparison.*` and `pictures/` into --out and prints the tables."""
    folders, names = _EVAL.value, _NAME.value or [""] * len(_EVAL.value)
    if len(folders) < 2:
        raise ConfigError("--eval: found one, accepted: two or more")
    if len(names) != len(folders):
        raise ConfigError(
            f"--name: found {len(names)}, accepted: {len(folders)}, one for each --eval"
        )
    from gshard_mt.console import Bar
    from gshard_mt.evaluate.comparison import compare_runs
    from gshard_mt.evaluate.comparison_page import make_page, write
    from gshard_mt.evaluate.folder import open_evaluation, read_evaluation
    from gshard_mt.report.page import to_text
    from gshard_mt.run.mirror import output_folder, shown

    evaluations = [
        read_evaluation(open_evaluation(folder), name)
        for folder, name in zip(folders, names, strict=True)
    ]
    for each, folder in zip(evaluations, folders, strict=True):
        print(f"evaluation  {folder}: step {each.checkpoint}, {each.split}", file=sys.stderr)
    total = len(evaluations) * len(evaluations[0].references)
    with Bar("compare", "pair", total) as bar:
        comparison = compare_runs(evaluations, bar.update)
    with output_folder(_OUT.value) as out:
        page = write(comparison, out)
    print(f"report      {shown(page)}", file=sys.stderr)
    print(to_text(make_page(comparison)), end="")


entry = cli_flags.command(main)
