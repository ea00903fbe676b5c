"""Writes docs/configuration.md: every key with its type, default, accepted values and meaning."""
# SPDX-License-Identifier: Apache-2.0

import dataclasses
import pathlib

from gshard_mt.config.keys import KEYS, RENAMED, SECTIONS, Key
from gshard_mt.config.stages import StageConfig

ROOT = pathlib.Path(__file__).resolve().parents[1]
TARGET = ROOT / "docs" / "configuration.md"

HEAD = """# Configuration

<!-- Written by scripts/write_configuration_doc.py (`make docs`) from gshard_mt/config/. -->

A config is a Python file with a `get_config()` that returns a `gshard_mt.config.Config`; the files
in `configs/` are such. They come with the package, which has them by name: `--config smoke` is
`configs/smoke.py`. Any key below is overridden on the command line:

```
gshard-train --config smoke --config.model.num_layers=8 --config.train.num_steps=500 ...
```

A file may take an argument after a colon: `--config gshard:2048e_36l`. An unknown key, a value that
its key does not accept and values that cannot work together are refused before anything starts,
with one line and exit status 2.

A relative path in a config file is relative to that file's folder; on the command line it is
relative to the working directory, and in a recipe to the recipe's folder.

A run keeps its config in its run directory, as `config.json`, where `gshard-eval` and
`gshard-translate` read it. The keys of `data` in it are those that the data were prepared with,
whatever the config file says; on the command line of `gshard-train` others are refused. Only
`data.temperature`, `data.seed` and `data.augmentation` belong to the training.
"""

RENAMED_HEAD = """
## Renamed keys

An old name is refused with its new one; a saved run that has it is read as if it had the new one.

| old | new |
| --- | --- |
"""


def text() -> str:
    """Returns the whole page."""
    parts = [HEAD]
    for section, record in SECTIONS.items():
        keys = {name: key for name, key in KEYS.items() if name.rpartition(".")[0] == section}
        parts.append(_section(section, record, keys))
    default = StageConfig()
    keys = {
        field.name: Key(field.type, getattr(default, field.name), **field.metadata)
        for field in dataclasses.fields(StageConfig)
    }
    parts.append(_section("StageConfig", StageConfig, keys))
    renamed = (f"| `{old}` | `{new}` |\n" for old, new in RENAMED.items())
    return "\n".join(parts) + RENAMED_HEAD + "".join(renamed)


def _section(title: str, record: type, keys: dict[str, Key]) -> str:
    lines = [
        f"## {title}",
        "",
        " ".join((record.__doc__ or "").split()),
        "",
        "| key | type | default | accepted | meaning |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, key in keys.items():
        default = f"`{key.default}`" if key.default != "" else "(empty)"
        cells = (f"`{name}`", key.type.__name__, default, key.accepted.words, key.meaning)
        lines.append(f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    TARGET.write_text(text(), encoding="utf-8")
