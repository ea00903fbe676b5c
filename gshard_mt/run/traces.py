"""Traces: programs that an earlier start has traced are read from disk instead of traced again."""
# SPDX-License-Identifier: Apache-2.0

import contextlib
import functools
import hashlib
import importlib
import importlib.metadata
import os
import pathlib
import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh

from gshard_mt.documents import draft_of

_FOLDER = "traced"  # in that of JAX's cache of compiled programs
_MOST = 256  # traces that are kept, of about 100 KB each; those used last
_PACKAGE = pathlib.Path(__file__).parents[1]
_DIGEST_BYTES = hashlib.sha256().digest_size


class _Traced(NamedTuple):
    """A program before it is compiled."""

    call: Any  # a jitted function of the leaves of all arguments
    leaves: list[jax.ShapeDtypeStruct]
    result: Any  # a tree of shapes, with shardings where they are given


class Program:
    """A jitted function of arrays; its trace is kept next to JAX's cache of compiled programs.

    `identity` tells what determines the function besides the source code of this package and its
    arguments. Records that it returns must be known to `jax.export`. `out_shardings` are as of
    `jax.jit`. A trace is not kept if JAX keeps no compiled programs, if several processes work
    together, or if it can't be exported. Any number of threads may call a program.
    """

    def __init__(
        self, function: Callable[..., Any], identity: str, mesh: Mesh, out_shardings: Any = None
    ):
        self._function, self._identity, self._mesh = function, identity, mesh
        self._out_shardings = out_shardings
        self._lock = threading.Lock()
        self._made: dict[Hashable, Future] = {}
        if _folder():
            _begin_imports()

    def __call__(self, *arguments: Any) -> Any:
        return self.compile(*arguments)(*jax.tree.leaves(arguments))

    def compile(self, *arguments: Any) -> Callable[..., Any]:
        """Returns the compiled function of the leaves, for arguments or their shapes."""

        def make() -> Callable[..., Any]:
            traced = self._trace(arguments)
            with jax.set_mesh(self._mesh):
                return traced.call.lower(*traced.leaves).compile()

        return self._once("compile", arguments, make)

    def result(self, *arguments: Any) -> Any:
        """Returns the shapes and given shardings of what the function returns."""
        return self._trace(arguments).result

    def _trace(self, arguments: tuple[Any, ...]) -> _Traced:
        def make() -> _Traced:
            leaves, tree = jax.tree.flatten(arguments)
            leaves = [jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding) for x in leaves]
            jit = functools.partial(jax.jit, out_shardings=self._out_shardings)
            call = jit(lambda *leaves: self._function(*jax.tree.unflatten(tree, leaves)))
            with jax.set_mesh(self._mesh):
                exported = self._export(call, leaves, str(tree))
                if exported:
                    call = jit(exported.call)
                    result = jax.tree.unflatten(exported.out_tree, exported.out_avals)
                else:
                    result = call.trace(*leaves).out_info
            return _Traced(call, leaves, self._with_shardings(result))

        return self._once("trace", arguments, make)

    def _export(
        self, call: Any, leaves: list[jax.ShapeDtypeStruct], tree: str
    ) -> jax.export.Exported | None:
        """Returns the program from disk, or traced and then written; None if it is not kept."""
        folder = _folder()
        if folder is None:
            return None
        path = folder / hashlib.sha256(repr(self._key(leaves, tree)).encode()).hexdigest()
        if content := _read(path):
            return jax.export.deserialize(bytearray(content))
        try:
            exported = jax.export.export(call)(*leaves)
            content = bytes(exported.serialize())
        except Exception:  # what can't be exported; traced as usual, a bug is raised once more
            return None
        _write(path, content)
        return exported

    def _key(self, leaves: list[jax.ShapeDtypeStruct], tree: str) -> tuple[Any, ...]:
        device = self._mesh.devices.flat[0]
        arrays = [(x.shape, str(x.dtype), str(x.sharding)) for x in leaves]
        mesh = list(self._mesh.shape.items()), device.platform, device.device_kind
        return self._identity, _environment(), mesh, str(self._out_shardings), tree, arrays

    def _with_shardings(self, result: Any) -> Any:
        if self._out_shardings is None:
            return result
        shardings = jax.tree.broadcast(self._out_shardings, result)
        return jax.tree.map(
            lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
            result,
            shardings,
        )

    def _once(self, stage: str, arguments: tuple[Any, ...], make: Callable[[], Any]) -> Any:
        """Makes something for arguments of these shapes, or waits for another thread's."""
        arrays = tuple((x.shape, x.dtype, x.sharding) for x in jax.tree.leaves(arguments))
        with self._lock:
            is_own = (stage, arrays) not in self._made
            future = self._made.setdefault((stage, arrays), Future())
        if is_own:
            try:
                future.set_result(make())
            except BaseException as error:
                del self._made[stage, arrays]
                future.set_exception(error)
        return future.result()


def _folder() -> pathlib.Path | None:
    config: Any = jax.config
    folder, is_used = config.jax_compilation_cache_dir, config.jax_enable_compilation_cache
    return (
        pathlib.Path(folder, _FOLDER) if folder and is_used and jax.process_count() == 1 else None
    )


@functools.cache
def _begin_imports() -> None:
    """Imports, in another thread, what jax.export does when it first calls a program.

    That takes as long as a small checkpoint, which is read meanwhile.
    """
    threading.Thread(target=importlib.import_module, args=("scipy.linalg",)).start()


@functools.cache
def _environment() -> tuple[Any, ...]:
    """Returns what determines how any function is traced: code, versions, settings of JAX."""
    code = hashlib.sha256()
    for path in sorted(_PACKAGE.rglob("*.py")):
        code.update(path.read_bytes())
    versions = [importlib.metadata.version(name) for name in ("jax", "jaxlib", "flax")]
    # Those of the cache tell where programs are, not what they are.
    settings = {key: str(x) for key, x in jax.config.values.items() if "cache" not in key}
    return code.hexdigest(), versions, sorted(settings.items())


def _read(path: pathlib.Path) -> bytes | None:
    """Returns what `_write` has written, or None if it is missing or damaged."""
    with contextlib.suppress(OSError):
        content = path.read_bytes()
        digest, content = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
        if hashlib.sha256(content).digest() == digest:
            with contextlib.suppress(OSError):
                os.utime(path)  # used last
            return content
    return None


def _write(path: pathlib.Path, content: bytes) -> None:
    """Writes a file that `_read` knows to be whole, and removes old ones; does nothing if it can't.

    Several processes may do so at the same time.
    """
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with draft_of(path) as draft:
            draft.write_bytes(hashlib.sha256(content).digest() + content)
        files = sorted(path.parent.iterdir(), key=lambda file: file.stat().st_mtime)
        for file in files[:-_MOST]:
            file.unlink(missing_ok=True)
