"""A journal is read as far as it was written, and its numbers add up."""
# SPDX-License-Identifier: Apache-2.0

import json
import math
import pathlib
import re

import numpy as np
import pytest

from gshard_mt.run.journal import History, drop_rates, expert_shares, read_history
from tests.run.made_lines import dev_lines, routing_line, train_line


def write(path, lines, tail=""):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + tail, encoding="utf-8")


def test_an_incomplete_line_is_skipped_and_a_missing_file_is_empty(tmp_path):
    assert read_history(tmp_path) == History()
    lines = [train_line(10), *dev_lines(10)]
    write(tmp_path / "metrics.jsonl", lines, tail='{"step": 20, "split": "tr')
    found = read_history(tmp_path)
    assert found == History(train=(lines[0],), dev=(*lines[1:],))
    write(tmp_path / "routing.jsonl", [routing_line(10)], tail='["step"]\n17\n{"step": 11}\n\n{')
    assert read_history(tmp_path).routing == (routing_line(10),)


def test_a_loss_that_is_nan_is_read(tmp_path):
    write(tmp_path / "metrics.jsonl", [train_line(10) | {"loss": math.nan}])
    assert math.isnan(read_history(tmp_path).train[0]["loss"])


def test_the_page_lists_the_fields_of_a_routing_line():
    page = pathlib.Path(__file__).parents[2] / "docs" / "architecture.md"
    text = page.read_text(encoding="utf-8").split("the latest training line: ")[1]
    fields = [*routing_line(10)]
    assert re.findall(r"`(\w+)`", text)[: len(fields)] == fields


def test_the_last_lines_are_those_up_to_the_evaluated_step():
    routing = [
        routing_line(step, stack, layer)
        for step in (10, 20)
        for stack in ("decoder", "encoder")
        for layer in (2, 0)
    ]
    history = History(dev=(*dev_lines(10), *dev_lines(20)), routing=(*routing,))
    assert history.dev_nll(19) == history.dev_nll(10) == {"de-en": 4.0, "fr-en": 5.0}
    assert history.dev_nll(9) == {} and history.routing_of(9) == []
    layers = [(line["step"], line["stack"], line["layer"]) for line in history.routing_of(25)]
    assert layers == [
        (20, "encoder", 0),
        (20, "encoder", 2),
        (20, "decoder", 0),
        (20, "decoder", 2),
    ]
    assert history.mean_dev_nll() == {10: 4.5, 20: 2.25}


def test_a_languages_shares_of_the_experts_add_up_to_1():
    shares_XE = expert_shares(routing_line(10))
    assert shares_XE[0] == pytest.approx([0.25, 0.75, 0.0])
    assert shares_XE[1].sum() == pytest.approx(1)
    assert np.isnan(shares_XE[2]).all()  # nothing of it was dispatched


def test_drop_rates_are_over_all_layers_of_a_stack():
    lines = [routing_line(10), routing_line(10, layer=2), routing_line(10, "decoder")]
    lines[1] = lines[1] | {"tokens": [300, 0, 0], "sent": [[30, 270, 0], [0] * 3, [0] * 3]}
    found = drop_rates(lines)
    assert list(found) == ["encoder", "decoder"]
    assert found["decoder"].to_no_expert_X[:2] == pytest.approx([0.02, 0.1])
    assert found["encoder"].to_no_expert_X[0] == pytest.approx((2 + 30) / (100 + 300))
    assert found["encoder"].over_capacity_X[:2] == pytest.approx([12 / 160, 1 / 15])
    assert np.isnan(found["encoder"].to_no_expert_X[2])
