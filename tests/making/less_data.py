"""Prepared data as they were before a language was added: the same tokenizer, a pair less."""
# SPDX-License-Identifier: Apache-2.0

import json
import pathlib
import shutil

from gshard_mt.data.prepared import Prepared, open_prepared


def leave_out(prepared: Prepared, pair: str, data_dir: pathlib.Path) -> Prepared:
    """Copies prepared data without a language pair."""
    shutil.copytree(prepared.directory, data_dir)
    shutil.rmtree(data_dir / pair)
    manifest = json.loads((data_dir / "manifest.json").read_text(encoding="utf-8"))
    del manifest["pairs"][pair]
    (data_dir / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return open_prepared(data_dir)
