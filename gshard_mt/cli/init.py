"""gshard-init: lays a config, a recipe and a sample text to start from, and says what to type.

Usage:   gshard-init FOLDER
Example: gshard-init try
"""
# SPDX-License-Identifier: Apache-2.0

import ast
import shlex
import shutil

from gshard_mt.cli import flags as cli_flags
from gshard_mt.cli.sample_text import LANGUAGES, sample_pairs
from gshard_mt.config.load import STARTERS
from gshard_mt.errors import ConfigError
from gshard_mt.storage.bucket_path import BucketPath, open_path

_NUM_PAIRS = 2000


def main(operand: str) -> None:
    """Writes the files into an empty folder and prints the commands of the config's docstring."""
    folder = open_path(operand)
    if isinstance(folder, BucketPath):
        raise ConfigError(f"{folder}: in a bucket; accepted: a folder on a disk")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder}: exists and is not empty; accepted: a new or an empty folder")
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("config.py", "recipe.toml"):
        shutil.copyfile(STARTERS / "configs" / "starter" / name, folder / name)
    for language in LANGUAGES:
        pairs = sample_pairs(language, _NUM_PAIRS)
        text = "".join(f"{source}\t{english}\n" for source, english in pairs)
        (folder / f"sample.{language}-en.tsv").write_text(text, encoding="utf-8")
    print(f"{folder}: {', '.join(sorted(path.name for path in folder.iterdir()))}; now type")
    print(f"\n    cd {shlex.quote(str(folder))}")
    docstring = ast.get_docstring(ast.parse((folder / "config.py").read_text(encoding="utf-8")))
    print("\n".join(line for line in (docstring or "").splitlines() if line.startswith("    ")))
    print(f"\nThen put your own text into {folder / 'recipe.toml'}.")


entry = cli_flags.command(main, "FOLDER")
