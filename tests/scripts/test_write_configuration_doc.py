"""docs/configuration.md is up to date with gshard_mt/config/."""
# SPDX-License-Identifier: Apache-2.0

import importlib.util
import pathlib

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
