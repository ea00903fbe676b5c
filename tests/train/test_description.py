"""What a run prints about itself before its first step."""
# SPDX-License-Identifier: Apache-2.0

import dataclasses

from gshard_mt.config.records import Config, DataConfig, TrainConfig
from gshard_mt.model.blueprint import abstract_model
from gshard_mt.train.description import describe, describe_change, describe_missing
from tests.making.runs import TIME
from tests.model import tiny


def test_a_run_says_how_its_tokens_are_grouped_and_how_many_of_a_group_an_expert_takes(capsys):
    config = Config(DataConfig(source_length=48, target_length=24), tiny.MOE)
    config.train.batch_rows, config.train.freeze = 16, "*_embedding_VM"
    describe(config, abstract_model(config.model, tiny.VOCAB_SIZES, tiny.one_device()), None)
    said = TIME.sub("", capsys.readouterr().out).splitlines()
    lines = dict(line.split(maxsplit=1) for line in said)
    num_frozen = sum(tiny.VOCAB_SIZES) * tiny.MOE.model_dim
    assert lines["frozen"] == f"{num_frozen:,} of them, in 2 arrays"
    assert lines["batch"] == "16 rows: 768 source tokens, 384 target tokens"
    assert lines["experts"].startswith("4 in every other layer, top2, ")
    # Of 24 tokens at 4 experts: 24 / 4 times the capacity factor, 4.
    assert lines["groups"] == "32 and 16 of 24 tokens, capacity 24 per expert and group"


def test_languages_without_held_out_pairs_are_said(prepared):
    assert describe_missing(prepared) == []
    counts = {pair: dict(splits) for pair, splits in prepared.num_examples.items()}
    counts["fr-en"]["test"], counts["lb-en"]["test"], counts["lb-en"]["train"] = 0, 0, 0
    (line,) = describe_missing(dataclasses.replace(prepared, num_examples=counts))
    assert line.startswith("no test     fr-en: ") and "--split test leaves out" in line


def test_what_happens_to_the_rate_of_a_finished_run_is_said():
    config = TrainConfig(learning_rate=0.2, warmup_steps=10, num_steps=200, schedule="linear")
    said = describe_change(config, 100, 100)
    assert said.startswith(
        "200 steps instead of 100: the rate continues at 0.105, which linear had"
    )
    assert "brought to 0; --init_from" in said
    constant = dataclasses.replace(config, schedule="constant")
    assert describe_change(constant, 100, 100).endswith("the rate continues at 0.2")
