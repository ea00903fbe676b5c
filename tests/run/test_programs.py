"""The clock of compilations counts each program once, and speaks only of those that take long."""
# SPDX-License-Identifier: Apache-2.0

import threading
import time

import jax
import jax.numpy as jnp
import pytest

from gshard_mt.run import programs
from gshard_mt.run.programs import compile_clock
from tests.making.runs import TIME

TRACE, _, COMPILE = programs._EVENTS


def begin(event: str) -> None:
    """As JAX reports it."""
    jax.monitoring.record_scalar(event, time.time(), fun_name="f")


def end(event: str, seconds: float) -> None:
    jax.monitoring.record_event_duration_secs(event, seconds, fun_name="f")


def test_a_program_is_counted_when_it_is_compiled_and_not_when_it_runs():
    assert compile_clock() is compile_clock()
    before = compile_clock().seconds
    function = jax.jit(lambda x: x * 3.25 + 1.5)
    function(jnp.arange(7.0))
    after = compile_clock().seconds
    assert after > before
    function(jnp.arange(7.0))
    assert compile_clock().seconds == after


def test_programs_in_a_program_are_not_counted_twice():
    before = compile_clock().seconds
    begin(TRACE)
    begin(TRACE)
    begin(COMPILE)
    end(COMPILE, 2)
    end(TRACE, 3)
    end(TRACE, 8)
    begin(COMPILE)
    end(COMPILE, 5)
    assert compile_clock().seconds - before == pytest.approx(13)


def test_a_thread_has_its_own_time():
    before = compile_clock().seconds
    begin(TRACE)
    thread = threading.Thread(target=lambda: (begin(COMPILE), end(COMPILE, 4)))
    thread.start()
    thread.join()
    end(TRACE, 1)
    assert compile_clock().seconds - before == pytest.approx(1)


def test_what_takes_long_is_said(capsys, monkeypatch):
    compile_clock()
    begin(TRACE)
    end(TRACE, 0.5)
    begin(COMPILE)
    end(COMPILE, 0.4)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(programs, "_PATIENCE", 0.0)
    begin(TRACE)
    said = ""
    while "compiling" not in said:  # by another thread
        said += capsys.readouterr().err
    end(TRACE, 1.5)
    begin(COMPILE)
    end(COMPILE, 10.84)
    said += capsys.readouterr().err
    assert TIME.sub("", said) == "compiling ...\ncompiled in 12.3 s\n"
