"""State of the server: the page, ``/health``, ``/metrics``, and ``/v1/models``."""

import time
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from smolvideo.html_page import render_page
from smolvideo.serve.api_errors import loading
from smolvideo.serve.chat_request import check_model
from smolvideo.serve.responses import error_response, json_response
from smolvideo.serve.server import Handler, Server, guarded
from smolvideo.version import __version__

_PACKAGE = "smolvideo.serve"


def information_routes(server: Server) -> list[Route]:
    """Return the routes that need no job."""
    started = int(time.time())
    page = render_page(
        _PACKAGE,
        "page.html",
        model=server.model,
        max_frames=server.options.sampling.max_frames,
        max_body_bytes=server.options.max_body_bytes,
        needs_key=server.options.api_key is not None,
        is_nano=server.checkpoint.is_nano,
    ).encode("utf-8")

    async def show_page(_: Request) -> Response:
        return Response(page, media_type="text/html; charset=utf-8", headers=_PAGE_HEADERS)

    async def health(_: Request) -> Response:
        if not server.worker.is_ready:
            return error_response(loading())
        return json_response({"status": "ok", "model": server.model, "version": __version__})

    async def metrics(_: Request) -> Response:
        text = server.metrics.to_text(server.worker)
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    async def models(_: Request) -> Response:
        return json_response({"object": "list", "data": [model_entry(server, started)]})

    async def model(request: Request) -> Response:
        check_model(request.path_params["name"], server.model)
        return json_response(model_entry(server, started))

    def route(path: str, handler: Handler) -> Route:
        return Route(path, guarded(server, path, handler), methods=["GET"])

    return [
        route("/", show_page),
        route("/health", health),
        route("/metrics", metrics),
        route("/v1/models", models),
        route("/v1/models/{name:path}", model),
    ]


_PAGE_HEADERS = {
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


def model_entry(server: Server, created: int) -> dict[str, Any]:
    """Return the model's entry in ``/v1/models``.

    Frigate reads ``max_model_len``; ``smolvideo`` is what a client needs to fit frames itself.
    """
    checkpoint = server.checkpoint
    return {
        "id": server.model,
        "object": "model",
        "created": created,
        "owned_by": "smolvideo",
        "max_model_len": checkpoint.context_tokens,
        "capabilities": ["vision", "video"],
        "smolvideo": {
            "version": __version__,
            "revision": checkpoint.revision,
            "layout": checkpoint.layout,
            "image_size": checkpoint.image_size,
            "resize_edge": checkpoint.resize_edge,
            "tokens_per_image": checkpoint.tokens_per_image,
            "max_frames": server.options.sampling.max_frames,
        },
    }
