"""Messages from process 0 to the others, which may have to wait for one for hours."""
# SPDX-License-Identifier: Apache-2.0

import itertools
import json
from typing import Any

import jax
from jax._src import distributed  # JAX has no public door to its key-value store

from gshard_mt.errors import TrainingError
from gshard_mt.partitioning.hosts import is_writer

_CHUNK_BYTES = 1 << 20
_POLL_MILLISECONDS = 60_000


class Messages:
    """JSON that process 0 sends and every other process receives, in order.

    Waiting is no collective, so no device and no network library runs into its time limit. JAX's
    coordination service, which keeps the messages, also ends the processes that wait if one dies.
    Between two messages all processes take part in a collective: then the first one was received.
    """

    def __init__(self):
        self._client: Any = distributed.global_state.client  # None: this process is alone
        self._numbers = itertools.count()
        self._sent: list[str] = []  # keys of the last message

    def send(self, message: Any) -> None:
        """Sends a message, if this is process 0 of several."""
        if self._client is None or not is_writer():
            return
        for key in self._sent:
            self._client.key_value_delete(key)
        text = json.dumps(message).encode()
        number, num_parts = next(self._numbers), -(-len(text) // _CHUNK_BYTES)
        self._sent = [_key(number, "parts"), *(_key(number, k) for k in range(num_parts))]
        self._client.key_value_set(self._sent[0], str(num_parts))
        for k, key in enumerate(self._sent[1:]):
            self._client.key_value_set_bytes(key, text[k * _CHUNK_BYTES : (k + 1) * _CHUNK_BYTES])

    def receive(self) -> Any:
        """Waits for the next message."""
        number = next(self._numbers)
        num_parts = int(self._get(_key(number, "parts")))
        return json.loads(b"".join(self._get(_key(number, k)) for k in range(num_parts)))

    def _get(self, key: str) -> bytes:
        while True:
            try:
                return self._client.blocking_key_value_get_bytes(key, _POLL_MILLISECONDS)
            except jax.errors.JaxRuntimeError as error:
                if "DEADLINE_EXCEEDED" not in str(error):
                    raise TrainingError(
                        "process 0 has died; its own messages may say why"
                    ) from error


def _key(number: int, part: Any) -> str:
    return f"gshard_mt/{number}/{part}"
