"""A run's data section says how its data were prepared; what disagrees on purpose is refused."""
# SPDX-License-Identifier: Apache-2.0

import copy
import dataclasses
import shutil

import pytest

from gshard_mt.config.keys import set_value
from gshard_mt.config.records import Config
from gshard_mt.data.prepare.settings import settle_data
from gshard_mt.errors import ConfigError


def settled(prepared, values, begun=None) -> Config:
    """The data section after `values` came from the command line."""
    config = Config()
    for name, value in values.items():
        set_value(config, name, value)
    settle_data(config, list(values), prepared, begun)
    return config


def test_what_the_data_were_made_with_replaces_what_a_config_file_says(prepared, config):
    found = Config()
    found.data.recipe, found.data.source_vocab_size, found.data.cleaning.html = "x.toml", 9, False
    found.data.temperature, found.data.seed, found.data.augmentation.typos = 3.0, 8, 0.1
    settle_data(found, [], prepared, None)
    own = {"temperature": 3.0, "seed": 8, "augmentation": found.data.augmentation}
    assert found.data == dataclasses.replace(config, **own, num_workers=0)


@pytest.mark.parametrize(
    "key, value",
    [
        ("data.recipe", "other.toml"),
        ("data.recipe", ""),
        ("data.tokenizer", "elsewhere"),
        ("data.source_vocab_size", 16000),
        ("data.source_length", 128),
        ("data.cleaning.html", False),
        ("data.keep_out", "news.tsv"),
    ],
)
def test_a_key_of_the_command_line_that_disagrees_is_refused(prepared, key, value):
    with pytest.raises(ConfigError) as raised:
        settled(prepared, {key: value})
    message = str(raised.value)
    assert message.startswith(f"config.{key}: found {value!r}, {prepared.directory}/manifest.json ")
    assert "accepted: nothing (a run takes it from its data)" in message and "\n" not in message


def test_a_key_that_agrees_or_changes_no_text_is_accepted(prepared, config, tmp_path):
    copied = shutil.copy(config.recipe, tmp_path / "same.toml")  # its corpora are not read
    for values in (
        {"data.recipe": config.recipe, "data.source_vocab_size": 330, "data.cleaning.html": True},
        {"data.recipe": str(copied)},
        {"data.max_drop_share": 0.5, "data.num_workers": 4},
    ):
        assert settled(prepared, values).data.recipe == config.recipe


def test_the_tokenizer_that_is_reused_is_known_by_its_content(prepared, tmp_path):
    manifest = copy.deepcopy(prepared.manifest)
    manifest["config"]["tokenizer"] = "the/other"
    manifest["identity"]["tokenizer"] = prepared.tokenizer_hash
    other = dataclasses.replace(prepared, manifest=manifest)
    shutil.copytree(prepared.directory / "tokenizer", tmp_path / "old" / "tokenizer")
    for path in ("the/other", str(tmp_path / "old")):
        assert settled(other, {"data.tokenizer": path}).data.tokenizer == "the/other"
    with pytest.raises(ConfigError, match="data.tokenizer: found ''"):
        settled(other, {"data.tokenizer": ""})


def test_a_key_that_is_newer_than_the_data_has_its_default(prepared):
    manifest = copy.deepcopy(prepared.manifest)
    del manifest["config"]["cleaning"]["html"], manifest["config"]["case_marks"]
    found = Config()
    found.data.cleaning.html, found.data.case_marks = False, True
    settle_data(found, [], dataclasses.replace(prepared, manifest=manifest), None)
    assert found.data.cleaning.html is True and found.data.case_marks is False


def test_a_run_that_has_begun_keeps_its_longer_rows(prepared):
    begun = Config()
    begun.data.source_length = 128
    begun.data.target_length = 16  # its data had shorter ones
    assert settled(prepared, {}, begun).data.source_length == 128
    assert settled(prepared, {"data.source_length": 128}, begun).data.target_length == 32
    with pytest.raises(ConfigError, match="data.source_length: found 40"):
        settled(prepared, {"data.source_length": 40}, begun)
