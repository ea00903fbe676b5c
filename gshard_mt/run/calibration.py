"""Calibration: from a translation's log-probability to how often such translations are good."""
# SPDX-License-Identifier: Apache-2.0

import dataclasses
import math
import pathlib
from typing import Any, NamedTuple

from gshard_mt.config.records import DecodeConfig
from gshard_mt.documents import read_json, write_json
from gshard_mt.errors import ConfigError, DataError

FORMAT_VERSION = 1
MIN_CHRF = 50  # a translation is good if its sentence chrF against its reference is at least this


class ConfidenceCurve(NamedTuple):
    """A logistic curve: the share of dev translations that are good, by their log-probability."""

    slope: float  # at least 0
    intercept: float
    sentences: int  # it was fitted to
    decode: dict[str, Any]  # how they were translated

    def confidence(self, mean: float) -> float:
        """Returns the share, from 0 to 1, of a log-probability per subword, `Translation.mean`."""
        return 0.5 * (1.0 + math.tanh(0.5 * (self.slope * mean + self.intercept)))


def path_of(folder: pathlib.Path, checkpoint: str) -> pathlib.Path:
    """Returns the file of a checkpoint (`900`, `average-900`) in a run or an exported model."""
    return folder / "eval" / checkpoint / "dev" / "calibration.json"


def decode_keys(config: DecodeConfig) -> dict[str, Any]:
    """Returns the keys on which translations depend."""
    return {key: value for key, value in dataclasses.asdict(config).items() if key != "batch_size"}


def write_calibration(calibration: ConfidenceCurve, path: pathlib.Path) -> None:
    """Writes the JSON file; its folder exists."""
    fields = calibration._asdict()
    write_json(path, {"format_version": FORMAT_VERSION, "min_chrf": MIN_CHRF, **fields}, indent=2)


def find_calibration(
    folder: pathlib.Path, checkpoint: str, config: DecodeConfig
) -> ConfidenceCurve | None:
    """Returns the calibration of a checkpoint that was translated with this config, if any.

    Raises DataError for a file that can't be read.
    """
    path, remedy = path_of(folder, checkpoint), "run gshard-eval --split dev again"
    if not path.exists():
        return None
    content = read_json(path, FORMAT_VERSION, DataError, remedy)
    try:
        numbers = (float(content["slope"]), float(content["intercept"]), int(content["sentences"]))
        found = ConfidenceCurve(*numbers, dict(content["decode"]))
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: incomplete ({error!r}); {remedy}") from None
    return found if found.decode == decode_keys(config) else None


def require_calibration(
    folder: pathlib.Path, checkpoint: str, config: DecodeConfig
) -> ConfidenceCurve:
    """Returns the calibration of a checkpoint. Raises ConfigError if there is none."""
    found = find_calibration(folder, checkpoint, config)
    if not found:
        what = "of another decode section" if path_of(folder, checkpoint).exists() else "none"
        raise ConfigError(
            f"--confidence: found {what} for step {checkpoint} in {folder}, accepted: a "
            "calibration for the same step and decode section; gshard-eval --split dev with the "
            "same --step and --decode writes it"
        )
    return found
