"""A stand-in for the program comet-score: its options, its way to read lines, its JSON."""
# SPDX-License-Identifier: Apache-2.0

import pathlib
import sys

_PROGRAM = """#!{python}
import argparse, json, os, sys

parser = argparse.ArgumentParser()
for option in ("-s", "-t", "-r", "--model", "--to_json"):
    parser.add_argument(option, required=True)
for option in ("--quiet", "--only_system"):
    parser.add_argument(option, action="store_true")
given = parser.parse_args()
if "PYTHONPATH" in os.environ:
    sys.exit("found the packages of another environment")
if given.model == "unknown":
    sys.exit("Traceback:\\nKeyError: \\"Model 'unknown'\\x1b[2J not supported by COMET.\\"\\n")
sides = {{}}
for name, path in zip(("src", "mt", "ref"), (given.s, given.t, given.r)):
    with open(path, encoding="utf-8") as file:
        sides[name] = [line.strip() for line in file.readlines()]
lines = [dict(zip(sides, line)) for line in zip(*sides.values(), strict=True)]
for line in lines:
    line["COMET"] = sum(map(len, line.values())) / 1000
if given.model == "few":
    del lines[-1]
if given.model == "nan":
    lines[0]["COMET"] = float("nan")
if given.model != "silent":
    with open(given.to_json, "w", encoding="utf-8") as file:
        json.dump({{given.t: lines}}, file)
"""


def write_program(environment: pathlib.Path) -> pathlib.Path:
    """Writes `bin/comet-score` of an environment that has unbabel-comet 2.2.7."""
    folder = environment / "lib" / "python3.12" / "site-packages" / "unbabel_comet-2.2.7.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text("Name: unbabel-comet\nVersion: 2.2.7\n", encoding="utf-8")
    program = environment / "bin" / "comet-score"
    program.parent.mkdir()
    program.write_text(_PROGRAM.format(python=sys.executable), encoding="utf-8")
    program.chmod(0o755)
    return program
