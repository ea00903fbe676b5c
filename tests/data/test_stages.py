"""Stages mix as the config says, begin at their steps, and go on bit for bit after a resume."""
# SPDX-License-Identifier: Apache-2.0

import dataclasses
import json
from collections import Counter, defaultdict

import numpy as np
import pytest

from gshard_mt.config.records import DataConfig
from gshard_mt.config.stages import StageConfig
from gshard_mt.data import batches
from gshard_mt.data.batches import train_batches
from gshard_mt.data.packing import Batch
from gshard_mt.data.position import change_mixture, mixture_of
from gshard_mt.data.prepare.keys import ENTRY_SHIFT
from gshard_mt.data.prepare.prepare import prepare
from gshard_mt.data.prepared import Prepared, open_prepared
from gshard_mt.data.stages import begin_stage, plan_stages
from gshard_mt.errors import CheckpointError, ConfigError, DataError
from tests.making.made_up import english_sentences, translated, write_made_up, write_recipe

# Language -> pairs of each corpus; `mined` and `clean` are in the order of the recipe.
SIZES = {"de": {"mined": 240, "clean": 60}, "fr": {"mined": 90, "clean": 70}, "lb": {"mined": 50}}
CORPORA = [(language, name) for language, sizes in SIZES.items() for name in sizes]

# Pretrain on mined text, continue on clean text, finish on both with weights.
STAGES = (
    StageConfig(until=7, weights={"clean": 0}),
    StageConfig(until=12, weights={"*": 0, "clean": 1}, temperature=1.0),
    StageConfig(weights={"c*n": 3.0}, temperature=100.0, rate=0.1),
)
BATCH_ROWS = 5


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> DataConfig:
    """Three languages in two corpora, which have a name and a weight in the recipe."""
    folder = tmp_path_factory.mktemp("corpora")
    config = write_made_up(folder)
    tables = []
    for language, sizes in SIZES.items():
        english, start = english_sentences(), 0
        for name, size in sizes.items():
            some = english[start : start + size]
            start += size
            lines = "".join(f"{translated(text, language)}\t{text}\n" for text in some)
            (folder / f"{language}.{name}.tsv").write_text(lines, encoding="utf-8")
            table = {"language": language, "source": f"tsv:{language}.{name}.tsv", "license": "x"}
            tables.append(table | {"name": name, "weight": 0.5 if name == "mined" else 1})
    write_recipe(folder, tables)
    return dataclasses.replace(config, num_dev=3, num_test=3)


@pytest.fixture(scope="module")
def prepared(config, tmp_path_factory) -> Prepared:
    data_dir = tmp_path_factory.mktemp("prepared")
    prepare(config, data_dir)
    return open_prepared(data_dir)


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(batches, "CHUNK_PAIRS", 64)


def _same(some, others):
    return all(
        np.array_equal(a, b)
        for x, y in zip(some, others, strict=True)
        for a, b in zip(x, y, strict=True)
    )


def _expected_shares(prepared, temperature, weight_of) -> dict[str, float]:
    """Each stream's share, computed in the plainest way."""
    amounts, masses = defaultdict(int), defaultdict(float)
    for pair, corpora in prepared.corpora.items():
        for corpus in corpora:
            weight = weight_of(corpus.name)
            if weight > 0:
                amounts[pair] += corpus.pairs
                masses[pair] += weight * corpus.pairs
    powers = {pair: amount ** (1 / temperature) for pair, amount in amounts.items()}
    return {
        f"{pair}/{corpus.name}": powers[pair]
        / sum(powers.values())
        * weight_of(corpus.name)
        * corpus.pairs
        / masses[pair]
        for pair, corpora in prepared.corpora.items()
        if pair in powers
        for corpus in corpora
    }


@pytest.mark.parametrize(
    "number, temperature, weights",
    [(0, 2.0, {"mined": 0.5, "clean": 0.0}), (1, 1.0, {"mined": 0.0, "clean": 1.0}),
     (2, 100.0, {"mined": 0.5, "clean": 3.0})],
)  # fmt: skip
def test_100_000_draws_of_each_stage_have_the_shares_of_the_config_within_a_percent(
    prepared, config, number, temperature, weights
):
    position = plan_stages(prepared, config, STAGES, 4096)[number].beginning
    mixture = mixture_of(position, seed=1)
    taken = np.sum([[len(i) for i in mixture.indices(k)] for k in range(25)], axis=0)
    assert taken.sum() >= 100_000
    expected = _expected_shares(prepared, temperature, weights.__getitem__)
    for name, found in zip(position.pairs, taken / taken.sum(), strict=True):
        assert found == pytest.approx(expected.get(name, 0.0), rel=0.01)


def test_the_recipe_weights_act_without_stages(prepared, config):
    (stage,) = plan_stages(prepared, config, (), 4096)
    mixture = mixture_of(stage.beginning, seed=1)
    taken = np.sum([[len(i) for i in mixture.indices(k)] for k in range(25)], axis=0)
    weights = {"mined": 0.5, "clean": 1.0}
    expected = _expected_shares(prepared, config.temperature, weights.__getitem__)
    found = dict(zip(stage.beginning.pairs, taken / taken.sum(), strict=True))
    assert found == pytest.approx(expected, rel=0.01)
    assert stage.until is None and stage.beginning.step is None


def test_without_weights_and_stages_a_position_is_as_it_always_was(prepared, config):
    plain = dataclasses.replace(prepared, corpora=dict.fromkeys(prepared.corpora, ()))
    state = train_batches(plain, config, BATCH_ROWS).get_state()
    assert state.keys() == {
        *("format_version", "data", "temperature", "chunk_pairs", "pairs", "chunk", "row")
    }
    assert list(state["pairs"]) == list(prepared.language_pairs)
    keys = {"pairs", "source_tokens", "target_tokens", "start"}
    assert all(info.keys() == keys for info in state["pairs"].values())


def test_every_batch_is_of_the_corpora_of_its_stage(prepared, config, small_chunks):
    stream = train_batches(prepared, config, BATCH_ROWS, stages=STAGES)
    seen: dict[int, Counter] = defaultdict(Counter)
    for step in range(1, 30):
        records = stream.list_records(stream.get_state())
        batch = next(stream)
        assert len(records) == int((batch.source_position_BL == 0).sum()) - int(
            (batch.source_segment_BL == 0).sum()
        )
        numbers = [id >> ENTRY_SHIFT for _, id in records]
        assert [f"{CORPORA[number][0]}-en" for number in numbers] == [pair for pair, _ in records]
        seen[(step > 7) + (step > 12)].update(CORPORA[number][1] for number in numbers)
        assert stream.get_state()["step"] == step
    stream.close()
    assert [set(seen[stage]) for stage in range(3)] == [{"mined"}, {"clean"}, {"mined", "clean"}]


@pytest.mark.parametrize("number", [0, 6, 7, 8, 11, 12, 13, 20])
def test_a_stream_resumed_around_a_border_goes_on_bit_for_bit(
    prepared, config, small_chunks, number
):
    stream = train_batches(prepared, config, BATCH_ROWS, stages=STAGES)
    for _ in range(number):
        next(stream)
    state = json.loads(json.dumps(stream.get_state(), sort_keys=True))
    expected = [next(stream) for _ in range(9)]
    resumed = train_batches(prepared, config, BATCH_ROWS, stages=STAGES)
    assert resumed.has_mixture_of(state)
    resumed.set_state(state)
    assert resumed.get_state() == state
    assert _same([next(resumed) for _ in range(9)], expected)
    assert resumed.get_state() == stream.get_state()
    stream.close()
    resumed.close()


def test_hosts_together_read_the_same_batches_in_every_stage(prepared, config, small_chunks):
    expected, states = None, set()
    for num_hosts in (1, 2, 4):
        streams = [
            train_batches(prepared, config, 8, range(host, 8, num_hosts), STAGES)
            for host in range(num_hosts)
        ]
        found = []
        for _ in range(16):
            parts = [next(stream) for stream in streams]
            deal = (np.stack(each, 1) for each in zip(*parts, strict=True))
            found.append(Batch(*(each.reshape(-1, *each.shape[2:]) for each in deal)))
        expected = expected or found
        assert _same(found, expected)
        for stream in streams:
            states.add(json.dumps(stream.get_state()))
            stream.close()
    assert len(states) == 1


def test_a_corpus_goes_on_in_a_later_stage_where_it_was_left(prepared, config):
    """No pair is repeated before the others were seen, whatever the stages between did."""
    stages = (StageConfig(2), StageConfig(4, {"clean": 0}), StageConfig(6), StageConfig())
    planned = plan_stages(prepared, config, stages, 16)
    position = planned[0].beginning
    order: dict[str, list[int]] = defaultdict(list)
    for number in range(4):
        mixture = mixture_of(position, config.seed)
        for chunk in range(9 if number < 3 else 60):
            for name, indices in zip(position.pairs, mixture.indices(chunk), strict=True):
                order[name] += indices.tolist()
        position = position._replace(chunk=8, row=3, step=2 * number + 2)
        position = begin_stage(planned, position, config.seed)
    for name, info in planned[0].beginning.pairs.items():
        count, stream = info["pairs"], order[name]
        assert len(stream) > count
        for start in range(0, len(stream) - count, count):
            assert sorted(stream[start : start + count]) == list(range(count))


def test_stages_may_be_given_to_a_run_that_had_none(prepared, config, small_chunks):
    before = train_batches(prepared, config, BATCH_ROWS)
    for _ in range(9):
        next(before)
    after = train_batches(prepared, config, BATCH_ROWS, stages=STAGES)
    assert not after.has_mixture_of(before.get_state())
    with pytest.raises(CheckpointError, match="change_mixture"):
        after.set_state(before.get_state())
    state = after.change_mixture(before.get_state(), 9)
    assert state["step"] == 9 and state["temperature"] == STAGES[1].temperature
    mixed = {name: info["weight"] for name, info in state["pairs"].items()}
    assert {name for name, weight in mixed.items() if weight} == {"de-en/clean", "fr-en/clean"}
    assert any(info["start"] for info in state["pairs"].values())
    for stream in (before, after):
        stream.close()


@pytest.mark.parametrize(
    "weights, message",
    [
        ({"clena": 1}, r"stages\[1\].weights: found 'clena', .*did you mean clean\?"),
        ({"x*": 1}, r"stages\[1\].weights: found 'x\*', .*accepted: clean, mined"),
        ({"*": 0}, r"stages\[1\].weights: found {'\*': 0}, accepted: a weight above 0"),
    ],
)
def test_weights_that_fit_no_corpus_are_refused(prepared, config, weights, message):
    with pytest.raises(ConfigError, match=message):
        plan_stages(prepared, config, (StageConfig(until=3), StageConfig(weights=weights)), 64)


def test_a_stage_of_corpora_without_training_pairs_is_refused(prepared, config):
    corpora = {
        pair: tuple(each._replace(pairs=0) if each.name == "clean" else each for each in some)
        for pair, some in prepared.corpora.items()
    }
    empty = dataclasses.replace(prepared, corpora=corpora)
    with pytest.raises(ConfigError, match="a corpus that has training pairs"):
        plan_stages(empty, config, (StageConfig(weights={"mined": 0}),), 64)


def test_a_recipe_that_weighs_everything_with_0_needs_a_stage(prepared, config):
    corpora = {
        pair: tuple(each._replace(weight=0) for each in some)
        for pair, some in prepared.corpora.items()
    }
    weightless = dataclasses.replace(prepared, corpora=corpora)
    with pytest.raises(DataError, match="weight 0"):
        plan_stages(weightless, config, (), 64)
    assert plan_stages(weightless, config, (StageConfig(weights={"clean": 1}),), 64)


def test_data_of_old_versions_have_stages_but_no_weights(prepared, config):
    old = dataclasses.replace(prepared, corpora=dict.fromkeys(prepared.corpora, ()))
    stages = (StageConfig(until=3), StageConfig(temperature=1.0))
    planned = plan_stages(old, config, stages, 64)
    assert list(planned[1].beginning.pairs) == list(prepared.language_pairs)
    start = planned[0].beginning._replace(chunk=2, step=3)
    new = planned[1].beginning._replace(step=3)
    assert begin_stage(planned, start, 0) == change_mixture(start, new, 0)
    with pytest.raises(DataError, match=r"stages\[0\].weights needs; prepare the data again"):
        plan_stages(old, config, (StageConfig(weights={"clean": 1}),), 64)
