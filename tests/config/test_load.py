"""A config file is loaded by its path, with an argument or without; its mistakes are one line."""
# SPDX-License-Identifier: Apache-2.0

import pytest

from gshard_mt.config.load import load_config, shorten_paths, starters
from gshard_mt.errors import ConfigError

HEAD = "from gshard_mt.config import Config\n\n"


def test_an_argument_after_a_colon_goes_to_get_config(tmp_path):
    path = tmp_path / "config.py"
    path.write_text(
        HEAD + "def get_config(size='4'):\n"
        "    config = Config()\n    config.model.num_layers = int(size)\n    return config\n"
    )
    assert load_config(path).model.num_layers == 4
    assert load_config(f"{path}:8").model.num_layers == 8


@pytest.mark.parametrize(
    "text, message",
    [
        ("def get_config(:\n", ":1: invalid syntax"),
        ("x = '\0'\n", ": source code string cannot contain null bytes; accepted: a Python file"),
        ("open('/')\n", ":1: can't be read: /: Is a directory"),
        (HEAD + "def get_config():\n    config = Config()\n    config.model.num_layer = 8\n",
         ":5: config.model.num_layer: unknown key; did you mean num_layers?"),
        (HEAD + "def get_config():\n    return Config(modle=3)\n",
         ":4: config.modle: unknown key; did you mean model?"),
        (HEAD + "def get_config():\n    return 1 / 0\n", ":4: ZeroDivisionError: division by zero"),
        ("def get_config():\n    return {}\n",
         ": get_config() returned a dict, accepted: gshard_mt.config.Config"),
        ("def get_config():\n    pass\n",
         ": get_config() returned None (is a return missing?), accepted: gshard_mt.config.Config"),
        (HEAD + "def get_config():\n    return Config\n",
         ": get_config() returned a type, accepted: gshard_mt.config.Config"),
        (HEAD, ": no get_config(); accepted: a file that defines it"),
        ("", ": no get_config(); accepted: a file that defines it"),
        (HEAD + "get_config = Config()\n", ": TypeError: 'Config' object is not callable"),
        (HEAD + "def get_config(size):\n    return Config()\n",
         ": TypeError: get_config() missing 1 required positional argument: 'size'"),
        ("import not_there\n\ndef get_config():\n    pass\n",
         ":1: imports not_there, which is not installed; install it or leave it out"),
        ("def get_config():\n    from not_there.inside import name\n",
         ":2: imports not_there, which is not installed; install it or leave it out"),
        ("from sys import not_there\n",
         ":1: ImportError: cannot import name 'not_there' from 'sys' (unknown location)"),
        ("import sys\nsys.exit('no accelerator here')\n", ":2: SystemExit: no accelerator here"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_file_is_one_line_that_names_it(tmp_path, text, message):
    path = tmp_path / "broken.py"
    path.write_text(text)
    with pytest.raises(ConfigError) as raised:
        load_config(path)
    assert str(raised.value) == f"{path}{message}"


def test_a_folder_is_no_config_file(tmp_path):
    with pytest.raises(ConfigError, match="not a regular file; accepted: the path of a config"):
        load_config(tmp_path)


def test_a_file_that_does_not_exist_is_refused():
    with pytest.raises(ConfigError, match="absent.py: no such file; accepted: the path of a co"):
        load_config("absent.py:8")


def test_the_packages_own_configs_have_names():
    assert {"smoke", "small", "gshard"} <= starters().keys()
    assert load_config("smoke") == load_config(starters()["smoke"])
    assert load_config("gshard:128e_12l").model.moe.num_experts == 128


def test_a_path_in_a_config_is_relative_to_its_file(tmp_path, monkeypatch):
    (tmp_path / "base").mkdir()
    text = "def get_config():\n    config = Config()\n    config.data.recipe = '../base.toml'\n"
    keep_out = "    config.data.keep_out = 'a.txt, b/*.txt,/c.txt,gs://bucket/d.txt'\n"
    (tmp_path / "base" / "base.py").write_text(HEAD + text + keep_out + "    return config\n")
    (tmp_path / "own.py").write_text(
        "from gshard_mt.config.load import load_config\n\ndef get_config():\n"
        "    config = load_config('base/base.py')\n    config.data.tokenizer = 'old'\n"
        "    return config\n"
    )
    monkeypatch.chdir(tmp_path)
    config = load_config("own.py")
    assert config.data.recipe == str(tmp_path / "base.toml")  # of the file that says it
    assert config.data.tokenizer == str(tmp_path / "old")
    base = tmp_path / "base"
    expected = f"{base}/a.txt,{base}/b/*.txt,/c.txt,gs://bucket/d.txt"
    assert config.data.keep_out == expected and config.data.extend_tokenizer == ""
    shorten_paths(config)
    assert (config.data.recipe, config.data.tokenizer) == ("base.toml", "old")
    assert config.data.keep_out == "base/a.txt,base/b/*.txt,/c.txt,gs://bucket/d.txt"


def test_a_config_in_a_bucket_is_read_and_its_paths_are_in_its_folder(bucket):
    (bucket / "deep" / "c.py").write_text(
        "from gshard_mt.config import Config\n"
        "def get_config(name='r'):\n"
        "    config = Config()\n"
        "    config.data.recipe = f'../{name}.toml'\n"
        "    config.data.keep_out = f'x/*.txt, /local/y.txt, {1 // len(name)}'\n"
        "    return config\n"
    )
    config = load_config(f"{bucket}/deep/c.py:other")
    assert config.data.recipe == f"{bucket}/other.toml"
    assert config.data.keep_out == f"{bucket}/deep/x/*.txt,/local/y.txt,{bucket}/deep/0"
    assert load_config(f"{bucket}/deep/c.py").data.recipe == f"{bucket}/r.toml"
    (bucket / "bad.py").write_text("\n1 / 0\n")
    with pytest.raises(ConfigError, match=rf"^{bucket}/bad.py:2: ZeroDivisionError"):
        load_config(f"{bucket}/bad.py")
    with pytest.raises(ConfigError, match=rf"^{bucket}/none.py: no such file"):
        load_config(f"{bucket}/none.py")
