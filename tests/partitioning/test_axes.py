"""The rules table and its one sentence: a mesh axis goes to the first letter that claims it."""
# SPDX-License-Identifier: Apache-2.0

import ast
import pathlib
import re
import subprocess
import sys

import pytest

from gshard_mt.partitioning.axes import ALPHABET, MESH_AXES, PARAMETER_RULES, RULES, names, spec

BOTH = ("data", "expert")
BATCH = ("dcn_data", *BOTH)
ROOT = pathlib.Path(__file__).parents[2]
ARRAY = re.compile(r"_?[a-z][a-z0-9_]*_([A-Z][A-Z0-9]*)")  # x_GSM, weight_R1
EINSUM = re.compile(r"([A-Z.,]+->[A-Z.]*)")


@pytest.mark.parametrize(
    ("letters", "expected"),
    [
        ("", ()),
        ("BLM", (BATCH, None, None)),
        ("GSM", (BATCH, None, None)),
        ("GSE", (BATCH, None, None)),
        ("GECM", (BATCH, None, None, None)),
        ("EGCM", ("expert", ("dcn_data", "data"), None, None)),
        ("EMH", ("expert", None, "model")),
        ("MND", (None, "model", None)),
    ],
)
def test_a_mesh_axis_goes_to_the_first_letter_that_claims_it(letters, expected):
    assert spec(letters) == expected


@pytest.mark.parametrize(
    ("letters", "expected"),
    [
        ("MND", (BOTH, "model", None)),
        ("HM", ("model", BOTH)),
        ("VM", (None, BOTH)),
        ("EMH", ("expert", "data", "model")),
        ("EHM", ("expert", "model", "data")),
    ],
)
def test_shared_parameters_are_cut_by_experts_first_then_by_width(letters, expected):
    assert spec(letters, rules=PARAMETER_RULES) == expected


def test_mesh_axes_that_are_not_there_are_left_out():
    assert spec("EGCM", ("expert",)) == ("expert", None, None, None)
    assert spec("GSM", ("expert",)) == ("expert", None, None)


def test_no_mesh_axis_is_used_twice():
    for first in ALPHABET:
        for second in ALPHABET:
            used = [name for entry in spec(first + second) for name in names(entry)]
            assert len(used) == len(set(used))


def test_every_rule_is_about_a_known_letter_and_a_known_mesh_axis():
    assert RULES.keys() <= ALPHABET.keys()
    assert {name for claims in RULES.values() for name in claims} <= set(MESH_AXES)


def test_an_unknown_letter_is_a_mistake_in_the_program():
    with pytest.raises(ValueError, match="'GZM': 'Z' is not a letter"):
        spec("GZM")


def lettered(tree: ast.AST):
    """Yields (line, letters) of every identifier that ends in letters and every einsum string."""
    fields = {ast.Name: "id", ast.arg: "arg", ast.keyword: "arg", ast.Attribute: "attr"}
    for node in ast.walk(tree):
        text = getattr(node, fields.get(type(node), "value"), None)
        if isinstance(text, str):
            match = ARRAY.fullmatch(text) or EINSUM.fullmatch(text)
            if match:
                yield getattr(node, "lineno", 0), match[1]


@pytest.mark.parametrize("folder", ["gshard_mt", "benchmarks", "scripts"])
def test_every_letter_of_a_name_or_an_einsum_is_in_the_alphabet(folder):
    found, strangers = 0, []
    for path in sorted((ROOT / folder).rglob("*.py")):
        for line, letters in lettered(ast.parse(path.read_text(encoding="utf-8"))):
            found += 1
            if set(letters) - {*ALPHABET, *"1.,->"}:
                strangers.append(f"{path.relative_to(ROOT)}:{line}: {letters}")
    assert not strangers
    assert found > 1000 or folder != "gshard_mt"


def test_the_table_of_the_architecture_page_is_the_alphabet():
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    section = page.split("## The alphabet")[1].split("\n## ")[0]
    assert dict(re.findall(r"\| ([A-Z]) \| ([^|]*?) (?=\|)", section)) == ALPHABET


def test_the_axes_import_without_jax():
    code = "import sys, gshard_mt.partitioning.axes; sys.exit('jax' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
