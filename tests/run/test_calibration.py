"""Calibrations: read as they were written, and only for the translations they were made of."""
# SPDX-License-Identifier: Apache-2.0

import dataclasses
import json

import pytest

from gshard_mt.config.records import DecodeConfig
from gshard_mt.errors import ConfigError, DataError
from gshard_mt.run.calibration import (
    ConfidenceCurve,
    decode_keys,
    find_calibration,
    path_of,
    require_calibration,
    write_calibration,
)

DECODE = DecodeConfig(beam_size=3)


@pytest.fixture
def path(tmp_path):
    path = path_of(tmp_path, "average-7")
    path.parent.mkdir(parents=True)
    write_calibration(ConfidenceCurve(2.0, 1.0, 100, decode_keys(DECODE)), path)
    return path


def test_a_confidence_is_the_logistic_curve():
    curve = ConfidenceCurve(2.0, 1.0, 100, {})
    assert curve.confidence(-0.5) == 0.5
    assert curve.confidence(0.0) == pytest.approx(0.7310585786)
    assert curve.confidence(-1000.0) == 0.0


def test_a_calibration_is_that_of_its_step_and_decoding(path, tmp_path):
    found = require_calibration(tmp_path, "average-7", DECODE)
    assert (found.slope, found.intercept, found.sentences) == (2.0, 1.0, 100)
    in_other_batches = dataclasses.replace(DECODE, batch_size=5)
    assert find_calibration(tmp_path, "average-7", in_other_batches) == found
    with pytest.raises(ConfigError, match="found none for step 7 .* gshard-eval --split dev"):
        require_calibration(tmp_path, "7", DECODE)
    with pytest.raises(ConfigError, match="of another decode section for step average-7"):
        require_calibration(tmp_path, "average-7", dataclasses.replace(DECODE, length_penalty=0.5))


@pytest.mark.parametrize("change", [{"format_version": 2}, {"slope": None}, {"decode": 5}])
def test_a_file_of_another_form_is_one_line(path, tmp_path, change):
    path.write_text(json.dumps(json.loads(path.read_text()) | change), encoding="utf-8")
    with pytest.raises(DataError, match="calibration.json: .*run gshard-eval --split dev again"):
        find_calibration(tmp_path, "average-7", DECODE)
