"""Writes docs/configuration.md from the records of gshard_mt/config: keys, defaults, meaning."""
# SPDX-License-Identifier: Apache-2.0

import dataclasses
import inspect
import io
import pathlib
import tokenize

from gshard_mt.config.records import (
    Config,
    known_keys,
    section_fields,
    section_of,
    section_types,
)

ROOT = pathlib.Path(__file__).resolve().parents[1]
TARGET = ROOT / "docs" / "configuration.md"

HEAD = """# Configuration

<!-- Written by scripts/write_configuration_doc.py (`make docs`) from gshard_mt/config/. -->

A config is a Python file with a `get_config()` that returns a `gshard_mt.config.Config`; the files
in `configs/` are such. Any key below is overridden on the command line:

```
gshard-train --config configs/smoke.py --config.model.num_layers=8 --config.train.num_steps=500 ...
```

An unknown key, a value of another type and values that can't work together are refused before
anything starts, with exit status 2. A run keeps its config as `config.json` in its run directory;
`gshard-eval` and `gshard-translate` read it there.
"""


def field_comments(record: type) -> dict[str, str]:
    """Returns the comment behind each field of a dataclass, `` where there is none."""
    comments, name = {item.name: "" for item in dataclasses.fields(record)}, ""
    for token in tokenize.generate_tokens(io.StringIO(inspect.getsource(record)).readline):
        if token.type == tokenize.NAME and token.string in comments and token.start[1] == 4:
            name = token.string
        elif token.type == tokenize.COMMENT and name:
            comments[name] = token.string.lstrip("# ")
        elif token.type == tokenize.NEWLINE:
            name = ""
    return comments


def text() -> str:
    """Returns the whole page."""
    defaults = Config()
    parts = [HEAD]
    for section in section_types():
        record = section_of(defaults, section)
        comments = field_comments(type(record))
        lines = [
            f"## {section}",
            "",
            (type(record).__doc__ or "").strip(),
            "",
            "| key | type | default | meaning |",
            "| --- | --- | --- | --- |",
        ]
        for item in section_fields(record):
            default = getattr(record, item.name)
            kind = known_keys()[f"{section}.{item.name}"].__name__
            meaning = comments[item.name].replace("|", "\\|")
            lines.append(f"| `{section}.{item.name}` | {kind} | `{default}` | {meaning} |")
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


if __name__ == "__main__":
    TARGET.write_text(text(), encoding="utf-8")
