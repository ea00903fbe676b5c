"""docs/configuration.md is what gshard_mt/config/records.py says today."""
# SPDX-License-Identifier: Apache-2.0

import importlib.util
import pathlib

from gshard_mt.config.records import ModelConfig

ROOT = pathlib.Path(__file__).parents[2]


def load_script():
    path = ROOT / "scripts" / "write_configuration_doc.py"
    spec = importlib.util.spec_from_file_location("write_configuration_doc", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_up_to_date():
    script = load_script()
    assert script.TARGET.read_text(encoding="utf-8") == script.text(), "run: make docs"


def test_the_comment_behind_a_field_is_its_help():
    comments = load_script().field_comments(ModelConfig)
    assert comments["model_dim"] == "M"
    assert comments["dtype"] == "of activations: float32 | bfloat16"
