"""The routes: the Open Inference Protocol v2, a photo to labels, metrics, and one page."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
import traceback
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ... import __version__
from ...errors import BadInput, Busy, TiffinError, TimedOut
from ...runtime.preprocess import prepare
from .body import Room, TooLarge, TooSlow, read, whole_number
from .metrics import CONTENT_TYPE, Metrics
from .model import Limits, Model, by_name
from .protocol import LENGTH_HEADER, InferRequest, format_response, parse_request

_PAGES = {
    "/": ("page.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
}
_POLICY = "default-src 'none'; style-src 'self'; script-src 'self'; img-src blob:; connect-src 'self'; base-uri 'none'"
_EXTENSIONS = ["binary_tensor_data", "classification", "predict"]
_GONE = 499  # nginx's word for a client that went away; nobody reads it but the metrics
_MOST_TOP = 100
_log = logging.getLogger(__name__)

Found = TypeVar("Found")
Answerer = Callable[[Request], Awaitable[Response]]


class Server:
    """The routes over some models.

    Args:
        models: by the name in the URL.
        pool: threads that prepare photos.
    """

    def __init__(self, models: dict[str, Model], limits: Limits, metrics: Metrics, pool: Executor) -> None:
        self._models, self._limits, self._metrics, self._pool = models, limits, metrics, pool
        self._room = Room(max(limits.bodies_bytes, limits.max_body_bytes))
        self.is_ready = True

    def application(self) -> Starlette:
        """As ASGI."""
        model = "/v2/models/{name}"
        routes: list[tuple[str, str, Answerer]] = [
            ("GET", "/v2", self._server),
            ("GET", "/v2/health/live", self._live),
            ("GET", "/v2/health/ready", self._ready),
            *(("GET", f"{path}", self._model) for path in (model, model + "/versions/{version}")),
            *(("GET", f"{path}/ready", self._model_ready) for path in (model, model + "/versions/{version}")),
            *(("POST", f"{path}/infer", self._infer) for path in (model, model + "/versions/{version}")),
            ("POST", "/predict", self._predict),
            ("GET", "/metrics", self._read_metrics),
            *(("GET", path, self._page) for path in _PAGES),
        ]
        return Starlette(
            routes=[Route(path, self._counted(path, answer), methods=[verb]) for verb, path, answer in routes],
            exception_handlers={HTTPException: _http_error},
        )

    def _counted(self, route: str, answer: Answerer) -> Answerer:
        """Every answer of a route, and every error as the protocol writes it."""

        async def counted(request: Request) -> Response:
            response = await self._answered(request, answer)
            self._metrics.requests.labels(route, str(response.status_code)).inc()
            return response

        return counted

    async def _answered(self, request: Request, answer: Answerer) -> Response:
        try:
            return await _or_lightly(answer(request))
        except ClientDisconnect:
            return Response(status_code=_GONE)
        except HTTPException as error:  # before starlette sees it, so that it is counted
            return await _http_error(request, error)
        except Busy as error:
            seconds = max(model.retry_after_s for model in self._models.values())
            return _error(503, error, {"Retry-After": str(seconds)})
        except (TimedOut, TimeoutError, asyncio.TimeoutError):
            return _error(504, f"no answer within {self._limits.deadline_s:g} s")
        except TooLarge as error:
            return _error(413, error)  # and the rest is dropped: of a closed connection a client may read no answer
        except TooSlow as error:
            return _error(408, error, {"Connection": "close"})
        except BadInput as error:
            return _error(400, error)
        except TiffinError as error:
            return _error(500, error)
        except Exception:
            _log.exception("%s %s", request.method, request.url.path)
            return _error(500, "an error of the server's own; its log says which")

    async def _server(self, request: Request) -> Response:
        return JSONResponse({"name": "tiffin", "version": __version__, "extensions": _EXTENSIONS})

    async def _live(self, request: Request) -> Response:
        return JSONResponse({"live": True})

    async def _ready(self, request: Request) -> Response:
        return JSONResponse({"ready": self.is_ready}, 200 if self.is_ready else 503)

    async def _model(self, request: Request) -> Response:
        return JSONResponse(self._asked_for(request).about())

    async def _model_ready(self, request: Request) -> Response:
        return JSONResponse(
            {"name": self._asked_for(request).name, "ready": self.is_ready}, 200 if self.is_ready else 503
        )

    def _asked_for(self, request: Request) -> Model:
        name, version = request.path_params["name"], request.path_params.get("version")
        if name not in self._models or version not in (None, self._models[name].version):
            known = ", ".join(f"{each.name} ({each.version})" for each in self._models.values())
            raise HTTPException(
                404, f"no model {name!r}{f' of version {version!r}' if version else ''}; loaded: {known}"
            )
        return self._models[name]

    async def _infer(self, request: Request) -> Response:
        model = self._asked_for(request)
        asked = await self._tensors(request, model)
        ran = await self._in_time(request, model.infer(asked.feeds))
        head = {"model_name": model.name, "model_version": model.version} | ({"id": asked.id} if asked.id else {})
        data, json_size = format_response(head, asked.wanted, ran.outputs, model.classifier.labels)
        if json_size is None:
            return Response(data, media_type="application/json")
        return Response(data, media_type="application/octet-stream", headers={LENGTH_HEADER: str(json_size)})

    async def _tensors(self, request: Request, model: Model) -> InferRequest:
        told = request.headers.get(LENGTH_HEADER)
        size = None if told is None else whole_number(told)
        if told is not None and size is None:
            raise BadInput(f"{LENGTH_HEADER} {told!r}", "a number of bytes")
        with self._room.share() as take:
            body = await self._body(request, take)
            return parse_request(body, size, model.manifest.inputs, model.manifest.outputs, self._limits.max_batch)

    async def _predict(self, request: Request) -> Response:
        """`?model=NAME` or all, `?top=5`; the photo is the body, or a form's file."""
        told = request.query_params.get("top", "5")
        top = whole_number(told)
        if top is None or not 1 <= top <= _MOST_TOP:
            raise BadInput(f"top {told!r}", f"1 to {_MOST_TOP}")
        name = request.query_params.get("model")
        models = [by_name(self._models, name)] if name else list(self._models.values())
        with self._room.share() as take:
            photo = await self._photo(request, take)
            return JSONResponse({"models": await self._in_time(request, self._labelled(photo, models, top))})

    async def _in_time(self, request: Request, answer: Coroutine[Any, Any, Found]) -> Found:
        """The answer, preparation included, unless the deadline passes or the client goes.

        Raises:
            TimeoutError, ClientDisconnect: so it was; what waits is forgotten, and its place given back.
        """
        return await _while_heard(request, asyncio.wait_for(answer, self._limits.deadline_s))

    async def _labelled(self, photo: bytes, models: list[Model], top: int) -> list[dict[str, Any]]:
        """A photo is prepared once for all models that take it alike."""
        with ExitStack() as held:
            for model in models:
                held.enter_context(model.admitted())
            prepared: dict[str, tuple[np.ndarray, float]] = {}
            for model in models:
                host = model.classifier.preprocess
                if host.digest() not in prepared:
                    prepared[host.digest()] = await self._prepared(photo, model)
            rows = [prepared[model.classifier.preprocess.digest()] for model in models]
            found = await _all([model.label(row, top) for model, (row, _) in zip(models, rows, strict=True)])
        return [
            {"model": model.name, "version": model.version, **asdict(answer), "prepare_s": seconds}
            for model, answer, (_, seconds) in zip(models, found, rows, strict=True)
        ]

    async def _prepared(self, photo: bytes, model: Model) -> tuple[np.ndarray, float]:
        """The model's input and the seconds that it took, waiting for a thread included."""
        start = time.perf_counter()
        row = await asyncio.get_running_loop().run_in_executor(self._pool, prepare, photo, model.classifier.preprocess)
        seconds = time.perf_counter() - start
        self._metrics.stages.labels(model.name, "prepare").observe(seconds)
        return row, seconds

    async def _photo(self, request: Request, take: Callable[[int], None]) -> bytes:
        body = await self._body(request, take)
        if not request.headers.get("content-type", "").startswith("multipart/form-data"):
            return body
        whole = Request(request.scope, _replayed(body))
        async with whole.form(max_files=1, max_fields=8, max_part_size=self._limits.max_body_bytes) as form:
            for value in form.values():
                if not isinstance(value, str):
                    return await value.read()
        raise BadInput("the form holds no file", "one file", "curl -F photo=@kiwi.jpg …")

    async def _body(self, request: Request, take: Callable[[int], None]) -> bytes:
        return await read(request, self._limits.max_body_bytes, self._limits.body_s, take)

    async def _read_metrics(self, request: Request) -> Response:
        return Response(self._metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    async def _page(self, request: Request) -> Response:
        name, kind = _PAGES[request.url.path]
        content = (Path(__file__).parent / "templates" / name).read_bytes()
        headers = {"Content-Security-Policy": _POLICY, "X-Content-Type-Options": "nosniff"}
        return Response(content, media_type=kind, headers=headers)


async def _or_lightly(answer: Awaitable[Response]) -> Response:
    """The answer, or its error without what the frames below held.

    asyncio's tasks and their errors hold each other, so a body in such a frame would stay until the garbage collector
    looks at its oldest generation, which many megabytes in few objects do not make it do.
    """
    try:
        return await answer
    except Exception as error:
        seen: BaseException | None = error
        while seen is not None:
            traceback.clear_frames(seen.__traceback__)
            seen = seen.__cause__ or seen.__context__
        raise


async def _all(each: list[Coroutine[Any, Any, Found]]) -> list[Found]:
    """All or the first error; then the others are not waited for, and what they hold is given back."""
    tasks = [asyncio.ensure_future(one) for one in each]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()


async def _while_heard(request: Request, answer: Coroutine[Any, Any, Found]) -> Found:
    """The answer, unless its client goes: then it is cancelled where it waits.

    Raises:
        ClientDisconnect: the client is gone.
    """
    working = asyncio.ensure_future(answer)
    listening = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({working, listening}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        for task in (working, listening):
            task.cancel()


async def _gone(request: Request) -> None:
    with contextlib.suppress(RuntimeError):  # starlette's, where it was said before
        while (await request.receive())["type"] != "http.disconnect":
            pass


def _replayed(body: bytes) -> Callable[[], Awaitable[dict[str, Any]]]:
    """A body that was read, to be read again."""

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


def _error(code: int, error: TiffinError | str, headers: dict[str, str] | None = None) -> Response:
    words = error if isinstance(error, str) else " · ".join(line.strip() for line in str(error).splitlines())
    return Response(json.dumps({"error": words}, ensure_ascii=False), code, headers, "application/json")


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _error(error.status_code, str(error.detail), dict(error.headers or {}))
