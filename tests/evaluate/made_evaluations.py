"""Makes run directories as after an evaluation, without a model: lines, table, metrics, config."""
# SPDX-License-Identifier: Apache-2.0

import json
import pathlib
from collections.abc import Mapping, Sequence

from gshard_mt.config.keys import to_json
from gshard_mt.config.records import Config
from gshard_mt.evaluate import table as tables
from gshard_mt.evaluate.folder import write_lines
from gshard_mt.evaluate.scores import score, signatures
from gshard_mt.run.directory import FORMAT_VERSION
from tests.run.made_lines import routing_line

WORDS = "the quick brown fox jumps over a lazy dog and runs away from it all".split()
TRAIN_PAIRS = {"de-en": 1000, "fr-en": 100, "hr-en": 10}
REFERENCES = {
    pair: [" ".join(WORDS[start : start + 7] + [pair]) for start in range(8)]
    for pair in TRAIN_PAIRS
}


def worsen(lines: Sequence[str], number: int) -> list[str]:
    """Returns the lines with other words at the end of the first `number`."""
    return [
        " ".join([*line.split()[:4], "or", "not"]) if index < number else line
        for index, line in enumerate(lines)
    ]


def leave(
    workdir: pathlib.Path,
    hypotheses: Mapping[str, Sequence[str]],
    nlls: Sequence[float] = (5.0, 3.0),
    references: Mapping[str, Sequence[str]] = REFERENCES,
    routes: bool = False,
) -> pathlib.Path:
    """Writes a run with a dev evaluation every 10 steps, each step 100 target tokens and 6 seconds,
    and an evaluation of its last step; returns `eval/STEP/test`."""
    step = 10 * len(nlls)
    folder = workdir / "eval" / str(step) / "test"
    scores = {pair: score(hypotheses[pair], lines) for pair, lines in references.items()}
    rows = tables.make_rows(scores, TRAIN_PAIRS)
    tables.write(tables.ScoreTable(step, "test", 5000, 2000, signatures(), rows), folder)
    for pair, lines in references.items():
        write_lines(folder / f"{pair}.hyp.txt", hypotheses[pair])
        write_lines(folder / f"{pair}.ref.txt", lines)
    record = {
        "format_version": FORMAT_VERSION,
        "config": to_json(Config()),
        "data_dir": "data",
        "data_fingerprint": "f",
        "train_pairs": TRAIN_PAIRS,
    }
    (workdir / "config.json").write_text(json.dumps(record), encoding="utf-8")
    lines = []
    for number, nll in enumerate(nlls, 1):
        line = {"step": 10 * number, "split": "train", "loss": nll, "nll": nll}
        times = {"seconds": 60.0, "compile_seconds": 10.0}
        lines.append({**line, "target_tokens": 1000, **times})
        for pair, more in {"de-en": -0.5, "fr-en": 0.5}.items():
            lines.append({"step": 10 * number, "split": "dev", "pair": pair, "nll": nll + more})
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (workdir / "metrics.jsonl").write_text(text, encoding="utf-8")
    if routes:
        text = json.dumps(routing_line(step)) + "\n"
        (workdir / "routing.jsonl").write_text(text, encoding="utf-8")
    return folder
