"""Sockets, signals, slow clients, and an end that answers what was begun."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ...artifact import Artifact, RunConfig
from ...errors import BadInput
from ...machine import usable_cores
from ...runtime import Session
from .app import Server
from .metrics import Metrics
from .model import Limits, Model

_IDLE_S = 30  # a connection that is kept alive and says nothing
_BACKLOG = 256
_MOST_HEAD_BYTES = 64_000


def patient(head_s: float, body_s: float) -> type[HttpToolsProtocol]:
    """uvicorn's protocol, with bounds while it is the client's turn: uvicorn itself waits and collects for ever (0.54).

    A head is bounded in bytes, and so is all else that is no body, such as the trailers after its last chunk.

    Args:
        head_s: for a request's head.
        body_s: for a body, whether its route reads it or not; who reads it has an earlier deadline, and can say so.
    """

    class Patient(HttpToolsProtocol):
        _deadline: asyncio.TimerHandle | None = None
        _head_bytes = 0

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._wait(head_s)

        def data_received(self, data: bytes) -> None:
            self._head_bytes += len(data)
            super().data_received(data)
            if self._head_bytes > _MOST_HEAD_BYTES:
                self.transport.close()
            if self._deadline is None and self.cycle.response_complete:
                self._wait(self.timeout_keep_alive)  # uvicorn's own ended with the first byte, of whatever it is

        def on_message_begin(self) -> None:
            self._wait(head_s)
            super().on_message_begin()

        def on_headers_complete(self) -> None:
            self._head_bytes = 0
            self._wait(body_s)
            super().on_headers_complete()

        def on_body(self, body: bytes) -> None:
            self._head_bytes = 0
            super().on_body(body)

        def on_message_complete(self) -> None:
            self._heard()
            super().on_message_complete()

        def connection_lost(self, exc: Exception | None) -> None:
            self._heard()
            super().connection_lost(exc)

        def _wait(self, seconds: float) -> None:
            self._heard()
            self._deadline = self.loop.call_later(seconds, self._too_slow)

        def _heard(self) -> None:
            if self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None

        def _too_slow(self) -> None:
            if self.pipeline:  # the server's turn: it answers the request before
                self._wait(body_s)
            else:
                self.transport.close()

    return Patient


def listen(host: str, port: int) -> socket.socket:
    """A bound socket; port 0 takes a free one.

    Raises:
        BadInput: the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except (OSError, OverflowError) as error:
        raise BadInput(f"cannot listen on {host}:{port} ({error})", "a free address of this machine",
                       "choose another --port, or 0 for any") from error  # fmt: skip


class _Uvicorn(uvicorn.Server):
    """Ends on SIGINT and SIGTERM with exit code 0, first for the load balancer, then for the connections."""

    def __init__(self, config: uvicorn.Config, server: Server, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._server, self._started = server, started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._started()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """uvicorn's own raises the signal again at the end."""
        before = {number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stop(self, number: int, frame: object) -> None:
        self._server.is_ready = False
        self.force_exit = self.should_exit  # the second signal does not wait
        self.should_exit = True


def serve(
    artifacts: Sequence[tuple[str, Artifact, RunConfig]],
    limits: Limits,
    listening: socket.socket,
    opened: Callable[[Session], None],
    started: Callable[[], None],
) -> None:
    """Load, warm up, answer until a signal comes, then answer what was begun.

    Args:
        artifacts: name in the URL, artifact, how it is run.
        opened: called with each session.
        started: called once requests are taken.

    Raises:
        BadInput: one is no classifier or of a dtype without a word, or a name stands twice.
        EngineMissing, EngineFailed: as the backend says.
    """
    names = [name for name, _, _ in artifacts]
    if len(set(names)) < len(names):
        raise BadInput(f"models {', '.join(names)}", "different names", "name them: NAME=ARTIFACT")
    metrics = Metrics()
    with ExitStack() as held:
        pool = held.enter_context(ThreadPoolExecutor(usable_cores(), "tiffin prepares"))
        models = {}
        for name, artifact, run in artifacts:
            session = held.enter_context(Session(artifact, run))
            opened(session)
            models[name] = Model(name, session, limits, metrics)
            models[name].classifier.warm_up()
        server = Server(models, limits, metrics, pool)
        config = uvicorn.Config(
            server.application(), http=patient(limits.header_s, limits.header_s + limits.body_s), ws="none",
            lifespan="off", log_level="warning", access_log=False, server_header=False, timeout_keep_alive=_IDLE_S,
            backlog=_BACKLOG, timeout_graceful_shutdown=round(limits.grace_s),
        )  # fmt: skip
        _Uvicorn(config, server, started).run([listening])
