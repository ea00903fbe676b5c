"""An exported folder is the model: rebuilt in NumPy from its files, it computes the same logits."""
# SPDX-License-Identifier: Apache-2.0

import dataclasses
import functools
import json
import pathlib
import shutil
from collections.abc import Callable

import jax
import numpy as np
import pytest
import safetensors

from gshard_mt.config.records import DataConfig
from gshard_mt.data.prepare.subwords import train_models
from gshard_mt.data.tokenizer import load_tokenizer
from gshard_mt.errors import CheckpointError, ExportError
from gshard_mt.export.card import write_card
from gshard_mt.export.description import Export, to_json
from gshard_mt.export.folder import UNFINISHED, export, write_safetensors
from gshard_mt.export.tensors import split
from gshard_mt.run.directory import Origin
from tests.export import plain_model
from tests.export.made_run import Made, make_run
from tests.making.made_up import english_sentences
from tests.model.tiny import Sentence, pack

MODELS = {
    "dense": ({"num_experts": 0}, {"tie_softmax": False}),
    "top2 and top1": (
        {"gate": "top2", "num_experts": 4, "decoder_gate": "top1"},
        {"num_layers": 8},
    ),
    "a shallow decoder": ({"num_experts": 4}, {"num_layers": 6, "num_decoder_layers": 2}),
    "top_k": (
        {"gate": "top_k", "num_choices": 3, "num_experts": 8, "shared_ffn_dim": 12},
        {"tie_embeddings": True},
    ),
}


@pytest.fixture(scope="module")
def make(tmp_path_factory, config, prepared) -> Callable[[str], Made]:
    """Makes the run of a model once."""

    @functools.cache
    def make(name: str) -> Made:
        moe, model = MODELS[name]
        data = dataclasses.replace(config)
        return make_run(tmp_path_factory.mktemp(name), data, prepared, moe, **model)

    return make


@pytest.fixture(scope="module")
def made(make) -> Made:
    return make("top2 and top1")


def sentences(num_source: int, num_target: int) -> list[Sentence]:
    rng = np.random.default_rng(0)
    sizes = ((5, 7), (1, 3), (11, 2))
    return [
        Sentence(rng.integers(4, num_source, s), rng.integers(4, num_target, t)) for s, t in sizes
    ]


@pytest.mark.parametrize("name", MODELS)
def test_numpy_computes_the_same_logits_from_the_files_alone(tmp_path, make, name):
    made = make(name)
    export(made.workdir, tmp_path / "out")
    model = plain_model.read(tmp_path / "out")
    vocabulary = model.config["vocabulary"]
    inputs = sentences(vocabulary["source"], vocabulary["target"])
    expected_BTV = made.logits(pack([[sentence] for sentence in inputs], 16))
    for (source, target), expected_TV in zip(inputs, expected_BTV, strict=True):
        found_TV = plain_model.logits(model, source.tolist(), target.tolist())
        assert np.abs(expected_TV).max() > 1.0
        np.testing.assert_allclose(found_TV, expected_TV[: len(target) + 1], rtol=0, atol=1e-5)


def test_config_and_readme_describe_the_files(made, tmp_path):
    out = tmp_path / "out"
    exported = export(made.workdir, out)
    with safetensors.safe_open(out / "model.safetensors", framework="np") as file:
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}
        assert file.metadata() == {"format": "gshard-mt", "format_version": "1", "step": "7"}
    record = json.loads((out / "config.json").read_text(encoding="utf-8"))
    total = sum(int(np.prod(shape)) for shape in shapes.values())
    assert total == record["num_parameters"] == exported.num_parameters
    assert total == sum(array.size for array in jax.tree.leaves(made.params))
    assert record["languages"] == ["de", "fr"] and record["step"] == 7
    assert record["special_ids"] == {"pad": 0, "eos": 1, "bos": 2, "unk": 3}
    assert record["formulas"]["gates"] == {"encoder": "top2", "decoder": "top1"}
    letters = {"M": 16, "H": 32, "N": 2, "D": 8, "E": 4}
    for name, shape in shapes.items():
        axes = name.rsplit("_", 1)[1]
        assert len(axes) == len(shape)
        assert all(letters.get(axis, size) == size for axis, size in zip(axes, shape, strict=True))
    for side in ("source", "target"):
        content = (out / record["tokenizer"][side]).read_bytes()
        assert content == (made.workdir / "tokenizer" / f"{side}.model").read_bytes()
    readme = (out / "README.md").read_text(encoding="utf-8")
    assert "This is step 7" in readme and f"{total:,} parameters in float32" in readme
    assert "| `encoder.layers.{0,2}.feed_forward.wi_EMH` | EMH | 4 x 16 x 32 |" in readme
    assert "| `decoder.layers.{0,1,2,3}.cross_attention.wo_NDM` | NDM | 2 x 8 x 16 |" in readme
    assert {path.name for path in out.iterdir()} == {
        *("README.md", "config.json", "model.safetensors", "tokenizer")
    }


def to_readme(exported: Export, folder: pathlib.Path) -> str:
    write_card(folder, exported, "safetensors", "", numbers="float32", arrays=[])
    return (folder / "README.md").read_text(encoding="utf-8")


def test_an_export_says_which_checkpoint_its_parameters_began_with(made, tmp_path):
    exported = export(made.workdir, tmp_path / "out")
    assert to_json(exported)["init_from"] is None and "began" not in to_readme(exported, tmp_path)
    run = exported.run._replace(origin=Origin("/home/someone/parent", 300, "0badcafe"))
    content = to_json(exported._replace(run=run))
    assert content["init_from"] == {"run": "parent", "step": 300, "checksum": "0badcafe"}
    readme = to_readme(exported._replace(run=run), tmp_path)
    assert "It began with the parameters of parent@300." in readme and "/home" not in readme


def test_an_export_says_that_its_tokenizer_marks_capitals(made, tmp_path):
    exported = export(made.workdir, tmp_path / "out")
    assert to_json(exported)["case_marks"] is None and "capitals" not in to_readme(
        exported, tmp_path
    )
    data = DataConfig(source_vocab_size=290, joint_vocabulary=True, case_marks=True)
    train_models(lambda side: english_sentences(), data, tmp_path)
    exported = exported._replace(tokenizer=load_tokenizer(tmp_path))
    assert to_json(exported)["case_marks"] == {"upper": "\x0e", "normal": "\x0f"}
    assert "Words in capitals" in to_readme(exported, tmp_path)


def test_every_layer_is_a_slice_of_the_scan(tmp_path, made):
    export(made.workdir, tmp_path / "out")
    arrays = plain_model.read(tmp_path / "out").arrays
    for layer in range(4):
        wq_PMND = made.params["decoder"]["layers"][layer % 2]["self_attention"]["wq_MND"]
        found = arrays[f"decoder.layers.{layer}.self_attention.wq_MND"]
        np.testing.assert_array_equal(found, wq_PMND[layer // 2])
    for layer, stem in ((0, "wi_EMH"), (1, "wi_MH"), (2, "wi_EMH"), (3, "wi_MH")):
        assert f"encoder.layers.{layer}.feed_forward.{stem}" in arrays


def test_a_large_model_is_in_several_files_with_an_index(made, tmp_path):
    export(made.workdir, tmp_path / "one")
    write = functools.partial(write_safetensors, max_bytes=20_000)
    export(made.workdir, tmp_path / "many", write=write)
    one, many = (plain_model.read(tmp_path / name) for name in ("one", "many"))
    index = json.loads((tmp_path / "many" / plain_model.INDEX).read_text(encoding="utf-8"))
    files = sorted(path.name for path in (tmp_path / "many").glob("*.safetensors"))
    assert len(files) > 3 and set(index["weight_map"].values()) == set(files)
    assert files[0] == f"model-00001-of-{len(files):05d}.safetensors"
    assert index["metadata"]["total_size"] == sum(array.nbytes for array in one.arrays.values())
    for name, array in one.arrays.items():
        np.testing.assert_array_equal(many.arrays[name], array)
        assert name in plain_model.read_file(tmp_path / "many" / index["weight_map"][name])


def test_a_file_is_filled_up_to_its_limit():
    sizes = {"a": 4, "b": 4, "c": 3, "huge": 30, "d": 8, "e": 1, "f": 1}
    assert split(sizes, 10) == [["a", "b"], ["c"], ["huge"], ["d", "e", "f"]]
    assert split({}, 10) == [[]]


@pytest.mark.parametrize("name", MODELS)
def test_integers_times_their_scales_are_nearly_the_weights(tmp_path, make, name):
    made = make(name)
    exported = export(made.workdir, tmp_path / "out", dtype="int8")
    model = plain_model.read(tmp_path / "out")
    assert model.config["num_parameters"] == exported.num_parameters
    assert exported.num_parameters == sum(leaf.size for leaf in jax.tree.leaves(made.params))
    vocabulary = model.config["vocabulary"]
    inputs = sentences(vocabulary["source"], vocabulary["target"])
    expected_BTV = made.logits(pack([[sentence] for sentence in inputs], 16))
    for (source, target), expected_TV in zip(inputs, expected_BTV, strict=True):
        found_TV = plain_model.logits(model, source.tolist(), target.tolist())
        errors = found_TV - expected_TV[: len(target) + 1]
        assert 0 < np.sqrt(np.mean(errors**2)) < 0.03 * expected_TV.std()


def test_bfloat16_values_are_the_nearest(made, tmp_path):
    export(made.workdir, tmp_path / "full")
    export(made.workdir, tmp_path / "half", dtype="bfloat16")
    full, half = (plain_model.read(tmp_path / name) for name in ("full", "half"))
    assert half.config["dtype"] == "bfloat16"
    for name, array in full.arrays.items():
        expected = np.asarray(jax.numpy.asarray(array, "bfloat16").astype("float32"))
        np.testing.assert_array_equal(half.arrays[name], expected)


@pytest.mark.parametrize(("step", "expected"), [("best", 3), ("latest", 7), ("3", 3)])
def test_a_step_is_chosen_as_elsewhere(made, tmp_path, step, expected):
    assert export(made.workdir, tmp_path / "out", step).step == expected
    with pytest.raises(CheckpointError, match="accepted: latest, best, 3, 7"):
        export(made.workdir, tmp_path / "other", "5")
    assert not (tmp_path / "other").exists()


def test_a_folder_that_is_not_empty_is_left_alone(made, tmp_path):
    (tmp_path / ".gitattributes").write_text("mine")
    with pytest.raises(ExportError, match=r"found \.gitattributes in it"):
        export(made.workdir, tmp_path)
    with pytest.raises(ExportError, match="found a file"):
        export(made.workdir, tmp_path / ".gitattributes")
    assert [path.name for path in tmp_path.iterdir()] == [".gitattributes"]


def test_the_remains_of_a_killed_export_are_replaced(made, tmp_path):
    left = tmp_path / UNFINISHED / "model.safetensors"
    left.parent.mkdir()
    left.write_bytes(b"half")
    export(made.workdir, tmp_path)
    assert plain_model.read(tmp_path).config["step"] == 7
    assert not left.parent.exists()


def test_a_damaged_checkpoint_leaves_no_folder_that_looks_whole(made, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(made.workdir, workdir)
    blobs = [path for path in (workdir / "checkpoints" / "7" / "params").rglob("d/*")]
    for path in blobs:
        path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(ExportError, match="other steps: 3"):
        export(workdir, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_model_larger_than_the_free_space_is_refused_first(made, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=10)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(ExportError, match="are free; free some space"):
        export(made.workdir, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
