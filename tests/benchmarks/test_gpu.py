"""The benchmark for a GPU in small, and that a part that fails does not stop the others."""
# SPDX-License-Identifier: Apache-2.0

import functools
import json

import pytest

from benchmarks import gpu


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs the benchmark with arguments; returns its rows."""

    def run(*arguments: str) -> list[dict]:
        monkeypatch.setattr("sys.argv", ["gpu", "--small", *arguments])
        gpu.main()
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    return run


def test_forms_of_the_product_are_compared(run, monkeypatch):
    monkeypatch.setattr(gpu, "SMALL", gpu.SMALL._replace(experts=(2,) * 2))
    rows = run("--only", "kernels")
    assert [row["form"] for row in rows] == ["ragged_dot", "triton"] * 2
    assert all(row["seconds"] > 0 and row["temporary_mib"] > 0 for row in rows)


def test_attention_is_compared_with_that_of_libraries(run, monkeypatch):
    monkeypatch.setattr(gpu, "SMALL", gpu.SMALL._replace(attended=(512,)))
    ours, xla, cudnn = run("--only", "attention")
    assert ours["seconds"] > 0 and ours["temporary_mib"] < xla["temporary_mib"]
    assert cudnn["error"] == "cuDNN is not detected."


def test_what_fails_and_what_is_too_late_is_said(monkeypatch, run):
    def fail():
        yield {"form": "first"}
        raise ValueError("no memory\nof this")

    def parts(scale, folder):
        yield "one", {"experts": 2}, fail
        yield "two", {}, functools.partial(iter, [{"form": "second"}])

    monkeypatch.setattr(gpu, "parts", parts)
    rows = run()
    assert [(row["benchmark"], row.get("form"), row.get("error")) for row in rows] == [
        ("one", "first", None),
        ("one", None, "ValueError: no memory"),
        ("two", "second", None),
    ]
    assert rows[0]["experts"] == 2
    assert all(row.get("skipped") for row in run("--seconds", "-1"))


def test_the_dense_model_has_the_active_size_of_that_with_experts(tmp_path):
    sizes = [gpu._config(gpu.FULL, experts).model for experts in (8, 0)]
    per_block = sizes[0].ffn_dim * (2 + 1)  # two experts in one layer, and a dense one
    assert per_block == 2 * sizes[1].ffn_dim
