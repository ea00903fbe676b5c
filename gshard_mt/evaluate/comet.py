"""COMET by its own program, comet-score, whose packages can't be installed beside this one."""
# SPDX-License-Identifier: Apache-2.0

import hashlib
import importlib.metadata
import json
import math
import os
import pathlib
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from typing import NamedTuple

from gshard_mt.data.normalization import normalize, one_line
from gshard_mt.documents import in_one_line
from gshard_mt.errors import ConfigError

MODEL = "Unbabel/wmt22-comet-da"
VARIABLE = "COMET_SCORE"  # names the program where it is not on PATH
_INSTALL = (
    'python3.12 -m venv ~/comet && ~/comet/bin/pip install unbabel-comet "setuptools<82" && '
    f"export {VARIABLE}=~/comet/bin/comet-score"
)


class Comet(NamedTuple):
    """The program with a model of its own."""

    program: pathlib.Path
    model: str  # a name of the Hugging Face hub, or the path of a checkpoint
    signature: str

    def score(
        self, sources: Sequence[str], hypotheses: Sequence[str], references: Sequence[str]
    ) -> list[float]:
        """Returns the score of each sentence. Raises ConfigError if the program can't tell it."""
        sides = {"-s": sources, "-t": hypotheses, "-r": references}
        with tempfile.TemporaryDirectory() as name:
            saved = pathlib.Path(name, "scores.json")
            command = [str(self.program), f"--model={self.model}", f"--to_json={saved}"]
            for option, lines in sides.items():
                path = pathlib.Path(name, option.strip("-"))
                path.write_text("".join(f"{one_line(each)}\n" for each in lines), encoding="utf-8")
                command += [option, str(path)]
            _run([*command, "--quiet", "--only_system"])
            return self._read(saved, len(sources))

    def _read(self, path: pathlib.Path, number: int) -> list[float]:
        try:
            (lines,) = json.loads(path.read_bytes()).values()  # by the name of the file
            scores = [float(line["COMET"]) for line in lines]
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise ConfigError(
                f"--metrics: {self.program} left no scores that can be read ({in_one_line(error)})"
            ) from None
        if len(scores) != number or not all(map(math.isfinite, scores)):
            finite = sum(map(math.isfinite, scores))
            raise ConfigError(
                f"--metrics: {self.program} gave {finite} scores, accepted: {number}, one for each "
                "sentence"
            )
        return scores


def open_comet(model: str = "") -> Comet:
    """Finds the program and scores one sentence with a model, by default the usual one.

    So it is known before anything is translated whether the model can be loaded. Raises ConfigError
    if the program is not installed, or fails.
    """
    name = os.environ.get(VARIABLE) or "comet-score"
    found = shutil.which(name)
    if found is None:
        raise ConfigError(
            f"--metrics: comet: found no program {name}; install it in an environment of its own: "
            f"{_INSTALL}"
        )
    program = pathlib.Path(found).absolute()
    signature = f"model:{model or MODEL}"
    if model.endswith(".ckpt"):
        try:
            with open(model, "rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()[:16]
        except OSError as error:
            raise ConfigError(
                f"--metrics: comet:{model} can't be read ({in_one_line(error)}); accepted: a "
                "checkpoint, its hparams.yaml in the folder above, or a model's name"
            ) from None
        signature = f"model:{pathlib.Path(model).name}|sha256:{digest}"
    comet = Comet(program, model or MODEL, f"{signature}|unbabel-comet:{_version(program)}")
    comet.score(["a"], ["a"], ["a"])
    return comet


def _run(command: Sequence[str]) -> None:
    # Its own packages only.
    own = {
        name: os.environ[name] for name in os.environ if name not in ("PYTHONPATH", "PYTHONHOME")
    }
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, env=own)
    except OSError as error:
        raise ConfigError(f"--metrics: {command[0]} can't be run ({in_one_line(error)})") from None
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        reason = normalize(in_one_line(RuntimeError(said[-1]))) if said else "no message"
        raise ConfigError(
            f"--metrics: {command[0]} failed with status {done.returncode} ({reason}); "
            "docs/evaluation.md says where the model goes if there is no network"
        )


def _version(program: pathlib.Path) -> str:
    """Returns the version of the package in the program's environment."""
    for folder in program.resolve().parents[1].glob("lib*/python*/site-packages"):
        for found in importlib.metadata.distributions(name="unbabel-comet", path=[str(folder)]):
            return found.version
    return "unknown"
