"""What a run says of itself before its first step."""
# SPDX-License-Identifier: Apache-2.0

from gshard_mt.config.records import Config, DataConfig
from gshard_mt.model.blueprint import abstract_model
from gshard_mt.train.training import describe
from tests.model import tiny


def test_a_run_says_how_its_tokens_are_grouped_and_how_many_of_a_group_an_expert_takes(capsys):
    config = Config(DataConfig(source_length=48, target_length=24), tiny.MOE)
    config.train.batch_rows = 16
    describe(config, abstract_model(config.model, tiny.VOCAB_SIZES, tiny.one_device()), 0)
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert lines["batch"] == "16 rows: 768 source tokens, 384 target tokens"
    assert lines["experts"].startswith("4 in every other layer, top2, ")
    # Of 24 tokens at 4 experts: 24 / 4 times the capacity factor, 4.
    assert lines["groups"] == "32 and 16 of 24 tokens, capacity 24 per expert and group"
