"""gshard-compare: puts evaluations of several runs side by side; no model is loaded.

gshard-compare --eval RUN1/eval/STEP/test --eval RUN2/eval/STEP/test --out DIR
"""
# SPDX-License-Identifier: Apache-2.0

import pathlib
import sys

from absl import flags

from gshard_mt.cli import flags as cli_flags
from gshard_mt.errors import ConfigError

_EVAL = flags.DEFINE_multi_string(
    "eval",
    None,
    "What gshard-eval left of a run, RUN/eval/STEP/SPLIT; repeatable, the others are compared with "
    "the first.",
    required=True,
)
_NAME = flags.DEFINE_multi_string(
    "name", [], "What to call each --eval, in their order; by default as the run directories."
)
_OUT = flags.DEFINE_string("out", None, "The folder to write into.", required=True)


def main(argv) -> None:
    """Writes `comparison.*` and `pictures/` into --out and prints the tables."""
    del argv
    folders, names = _EVAL.value, _NAME.value or [""] * len(_EVAL.value)
    if len(folders) < 2:
        raise ConfigError("--eval: found one, accepted: two or more")
    if len(names) != len(folders):
        raise ConfigError(f"--name: found {len(names)}, accepted: {len(folders)}, one an --eval")
    import tqdm

    from gshard_mt.evaluate.comparison import put_side_by_side
    from gshard_mt.evaluate.comparison_page import to_text, write
    from gshard_mt.evaluate.folder import read_evaluated

    several = [
        read_evaluated(pathlib.Path(folder), name)
        for folder, name in zip(folders, names, strict=True)
    ]
    total = len(several) * len(several[0].references)
    with tqdm.tqdm(total=total, desc="compare", unit="pair", dynamic_ncols=True) as bar:
        side = put_side_by_side(several, bar.update)
    page = write(side, pathlib.Path(_OUT.value))
    print(f"report      {page}", file=sys.stderr)
    print(to_text(side), end="")


def entry() -> None:
    """The console script."""
    cli_flags.run(main)


if __name__ == "__main__":
    entry()
