"""A pruned model is the model whose gate never chooses the experts that were dropped."""
# SPDX-License-Identifier: Apache-2.0

import json
import pathlib

import jax
import numpy as np
import pytest
import safetensors.numpy

from gshard_mt.data.batches import split_batches
from gshard_mt.decode.loading import load_translator
from gshard_mt.errors import DataError
from gshard_mt.evaluate.expert_losses import loss_without_experts
from gshard_mt.evaluate.pruning import compare
from gshard_mt.evaluate.test_sets import TestSet
from gshard_mt.export.folder import export
from gshard_mt.model.blueprint import abstract_model
from gshard_mt.model.pruning import mask_gates, prune_params
from gshard_mt.routing.gating import GATES
from gshard_mt.run.exported import read_trained
from gshard_mt.run.journal import read_history
from gshard_mt.run.pruning import Pruning, load_of_experts, plan_pruning, with_experts
from tests.cli.calling import call, first_devices, refused
from tests.export.made_run import Made, make_run
from tests.routing.problems import route
from tests.run.made_lines import routing_line

LINES = ["Ein Hund läuft.", "Die Katze schläft auf dem Sofa, und niemand stört sie."]
LAYERS = [(stack, layer) for stack in ("encoder", "decoder") for layer in (0, 2)]
NUM_EXPERTS = 8


@pytest.fixture(scope="module")
def made(tmp_path_factory, config, prepared) -> Made:
    """A run of 2 blocks a stack, on a mesh of 4 expert shards, with loads in its journal."""
    moe = {"num_experts": NUM_EXPERTS, "gate": "top2", "decoder_gate": "top1"}
    made = make_run(tmp_path_factory.mktemp("pruned"), config, prepared, moe, num_layers=8)
    rng = np.random.default_rng(0)
    with (made.workdir / "routing.jsonl").open("w", encoding="utf-8") as file:
        for stack, layer in LAYERS:
            load_XE = rng.integers(0, 100, (3, NUM_EXPERTS)).tolist()
            file.write(json.dumps({**routing_line(3, stack, layer), "load": load_XE}) + "\n")
    return made


@pytest.fixture(scope="module")
def pruning(made) -> Pruning:
    run = read_trained(made.workdir)
    return plan_pruning(run, ["de"], 0.375, load_of_experts(read_history(made.workdir), 7))


@pytest.fixture(scope="module")
def folder(made, pruning) -> pathlib.Path:
    out = made.workdir.parent / "model"
    export(made.workdir, out, pruning=pruning)
    return out


@pytest.fixture(scope="module")
def whole(made) -> pathlib.Path:
    out = made.workdir.parent / "whole"
    export(made.workdir, out)
    return out


def arrays(folder: pathlib.Path) -> dict[str, np.ndarray]:
    return safetensors.numpy.load_file(folder / "model.safetensors")


def test_every_layer_keeps_its_own_experts(made, pruning, folder, whole):
    before, after = arrays(whole), arrays(folder)
    assert len(set(pruning.kept.values())) > 1 and len(pruning.kept) == len(LAYERS)
    assert set(before) == set(after)
    for name, array in before.items():
        layer, letters = ".".join(name.split(".")[:3]), name.rsplit("_", 1)[1]
        if (axis := letters.find("E")) >= 0:
            kept = list(pruning.kept[layer])
            array = np.stack([array[(slice(None),) * axis + (number,)] for number in kept], axis)
        np.testing.assert_array_equal(after[name], array, err_msg=name)
    assert any("wg_ME" in name for name in before)


@pytest.mark.parametrize(
    ("gate", "options"), [("top2", ()), ("top1", ()), ("top_k", (("num_choices", 3),))]
)
def test_a_dropped_expert_gives_its_tokens_to_the_best_one_left(gate, options):
    """The gate without their columns chooses as if their logits were below all others."""
    kept = [1, 2, 5, 6]
    logits_GSE = np.random.default_rng(1).normal(size=(2, 12, 8)).astype(np.float32)
    is_token_GS = np.arange(24).reshape(2, 12) % 5 > 0
    never_GSE = np.full_like(logits_GSE, -1e4)
    never_GSE[..., kept] = logits_GSE[..., kept]
    whole = route(GATES[gate], never_GSE, is_token_GS, 12, options=options)
    pruned = route(GATES[gate], logits_GSE[..., kept], is_token_GS, 12, options=options)
    np.testing.assert_array_equal(
        np.array(kept)[pruned.expert_GSK][is_token_GS], whole.expert_GSK[is_token_GS]
    )
    np.testing.assert_allclose(pruned.weight_GSK, whole.weight_GSK, atol=1e-6)
    assert np.all(np.sum(pruned.weight_GSK, -1)[is_token_GS] > 0)


def test_the_run_pruned_on_the_fly_is_its_export(made, pruning, folder):
    run = read_trained(made.workdir)
    on_the_fly = load_translator(made.workdir, run.config, "7", pruning)
    exported = load_translator(folder, read_trained(folder).config, "latest")
    assert on_the_fly.config.model == exported.config.model
    jax.tree.map(np.testing.assert_array_equal, on_the_fly.params, exported.params)


def test_a_masked_gate_chooses_as_one_without_the_others(made, pruning, prepared):
    batch = next(split_batches(prepared, "dev", made.config.data, 16))
    masked = made._replace(params=mask_gates(made.params, pruning.kept, NUM_EXPERTS))
    config = with_experts(made.config, pruning.num_kept)
    sizes, mesh = made.blueprint.vocab_sizes, made.blueprint.mesh
    smaller = made._replace(
        config=config,
        blueprint=abstract_model(config.model, sizes, mesh),
        params=prune_params(made.params, pruning.kept),
    )
    whole = dict.fromkeys(pruning.kept, range(NUM_EXPERTS))
    same = made._replace(params=mask_gates(made.params, whole, NUM_EXPERTS))
    np.testing.assert_allclose(masked.logits(batch), smaller.logits(batch), atol=2e-5)
    np.testing.assert_array_equal(same.logits(batch), made.logits(batch))
    assert np.abs(masked.logits(batch) - made.logits(batch)).max() > 0.1


def test_the_worth_of_an_expert_is_the_dev_loss_without_it(made, prepared):
    """Compared with logits and a plain softmax; French only, so the other pairs don't count."""
    found = loss_without_experts(made.workdir, "7", prepared)(["fr-en"])
    assert {name: each.shape for name, each in found.items()} == {
        f"{stack}.layers.{layer}": (NUM_EXPERTS,) for stack, layer in LAYERS
    }
    for layer, expert in (("encoder.layers.2", 5), ("decoder.layers.0", 1)):
        kept = {name: list(range(NUM_EXPERTS)) for name in found}
        kept[layer].remove(expert)
        without = made._replace(params=mask_gates(made.params, kept, NUM_EXPERTS))
        nll = []
        for batch in split_batches(prepared, "dev", made.config.data, 16):
            logits_BTV = without.logits(batch).astype(np.float64)
            log_p_BTV = logits_BTV - np.logaddexp.reduce(logits_BTV, -1, keepdims=True)
            own_BT = batch.target_pair_BT == prepared.language_pairs.index("fr-en")
            own_BT &= batch.target_segment_BT != 0
            nll += np.take_along_axis(-log_p_BTV, batch.label_BT[..., None], -1)[own_BT].tolist()
        np.testing.assert_allclose(found[layer][expert], np.mean(nll), rtol=1e-5)
    with pytest.raises(DataError, match="no dev sentences of xx-en"):
        loss_without_experts(made.workdir, "7", prepared)(["xx-en"])


def test_with_all_experts_nothing_changes(made):
    run = read_trained(made.workdir)
    plan = plan_pruning(run, [], 1.0, load_of_experts(read_history(made.workdir), 7))
    pruned = load_translator(made.workdir, run.config, "7", plan)
    whole = load_translator(made.workdir, run.config, "7")
    jax.tree.map(np.testing.assert_array_equal, pruned.params, whole.params)


def test_the_export_says_what_it_is(made, pruning, folder):
    record = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert record["languages"] == ["de"] and record["model"]["moe"]["num_experts"] == 3
    assert record["pruning"]["num_experts"] == NUM_EXPERTS
    assert record["pruning"]["kept"] == {name: list(each) for name, each in pruning.kept.items()}
    assert "keeps 3 of 8 experts" in (folder / "README.md").read_text(encoding="utf-8")


def test_commands_prune(made, folder, tmp_path):
    flags = ("--workdir", made.workdir, "--languages", "deu", "--keep_experts", "0.375")
    text = "".join(f"{line}\n" for line in LINES).encode()
    translated = [call("translate", *own, input=text) for own in (flags, ("--model", folder))]
    assert translated[0].stdout == translated[1].stdout, translated[0].stderr.decode()
    with first_devices(1):
        done = call("export", *flags, "--out", tmp_path / "model")
    assert done.returncode == 0, done.stderr.decode()
    assert "not compared" in done.stderr.decode() and "give --data_dir" in done.stderr.decode()
    jax.tree.map(np.testing.assert_array_equal, *map(arrays, (tmp_path / "model", folder)))


def test_experts_are_chosen_by_the_loss_of_dev_sentences(made, prepared, tmp_path):
    flags = ("--workdir", made.workdir, "--languages", "de", "--keep_experts", "0.375")
    flags = (*flags, "--choose_experts_by", "loss", "--data_dir", prepared.directory)
    with first_devices(1):
        done = call("export", *flags, "--out", tmp_path / "model")
    assert done.returncode == 0, done.stderr.decode()
    assert "de-en" in done.stdout.decode() and "not compared" not in done.stderr.decode()
    record = json.loads((tmp_path / "model" / "config.json").read_text(encoding="utf-8"))
    found = loss_without_experts(made.workdir, "7", prepared)(["de-en"])
    for layer, kept in record["pruning"]["kept"].items():
        assert set(kept) == set(np.argsort(found[layer])[-3:].tolist())
    assert record["pruning"]["chosen_by"] == "loss" and len(record["pruning"]["kept"]) == 4
    card = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    assert "those without which the dev loss of these languages rises most." in card


def test_the_table_has_the_sentences_of_the_languages_that_stay(made, folder, whole):
    same = [(line, "A dog runs.") for line in LINES]
    table = compare(made.workdir, folder, TestSet("dev", {"de-en": same, "fr-en": same}), "7")
    assert [row[0] for row in table.rows] == ["de-en"]
    before, after = (sum(array.size for array in arrays(each).values()) for each in (whole, folder))
    assert ["parameters", f"{before:,}", f"{after:,}", f"{after - before:+,}"] in [
        row[:4] for row in table.footer
    ]
    with pytest.raises(DataError, match="no dev sentences of the languages"):
        compare(made.workdir, folder, TestSet("dev", {"fr-en": same}), "7")


def test_an_output_is_resumed_with_the_same_experts_only(made, tmp_path):
    (tmp_path / "source.txt").write_text("".join(f"{line}\n" for line in LINES), encoding="utf-8")
    flags = ("--workdir", made.workdir, "--input", tmp_path / "source.txt", "--resume")
    flags = (*flags, "--output", tmp_path / "english.txt", "--keep_experts")
    done = call("translate", *flags, "0.5")
    assert done.returncode == 0, done.stderr.decode()
    assert b"nothing to do" in call("translate", *flags, "0.5").stderr
    assert "experts that are kept" in refused(call("translate", *flags, "0.25"))


def test_what_cannot_be_pruned_is_one_line_and_nothing_is_written(made, folder, tmp_path):
    def error(*flags, command: str = "export") -> str:
        out = ("--out", tmp_path / "out") if command == "export" else ()
        line = refused(call(command, *flags, *out, input=b"ein Hund\n"))
        assert not (tmp_path / "out").exists()
        return line

    run, half = ("--workdir", made.workdir), ("--keep_experts", "0.5")
    assert "accepted: both" in error(*run, "--languages", "de")
    assert "give --data_dir" in error(*run, *half, "--choose_experts_by", "loss")
    assert "found 0.1 of 8 experts" in error(*run, "--keep_experts", "0.1")
    assert "--languages: found 'it'" in error(*run, *half, "--languages", "it")
    early = ("--keep_experts", "0.5", "--step", "2")
    assert "no loads up to step 2" in error(*run, *early, command="translate")
    model = ("--model", folder, "--keep_experts", "0.5")
    assert "--workdir RUN" in error(*model, command="translate")
    restricted = (*run, "--keep_experts", "0.5", "--languages", "de", "--source_language", "fr")
    assert "not trained on it" in error(*restricted, command="translate")
