"""The ASGI application: routes, and what happens between a request and its job.

GET  /                       the page
GET  /health, /metrics       state and counters
GET  /v1/models              the one model
POST /v1/chat/completions    OpenAI's chat, with video
POST /v1/video/frames        the frames that the model gets, as small images
POST /api/chat, …            Ollama's interface (ollama.py)
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response

from smolvideo.sanitize import display_name
from smolvideo.serve.access import AccessGuard
from smolvideo.serve.api_errors import ApiError, to_api_error
from smolvideo.serve.chat_routes import chat_routes
from smolvideo.serve.ollama import ollama_routes
from smolvideo.serve.pages import information_routes
from smolvideo.serve.responses import error_response
from smolvideo.serve.server import Server
from smolvideo.serve.video_routes import video_routes


def make_app(server: Server) -> Starlette:
    """Return the application of a server."""
    routes = [
        *information_routes(server),
        *chat_routes(server),
        *video_routes(server),
        *ollama_routes(server),
    ]
    middleware = [Middleware(AccessGuard, options=server.options)]
    if server.options.allowed_origins:
        middleware.append(
            Middleware(
                CORSMiddleware,
                allow_origins=list(server.options.allowed_origins),
                allow_methods=["GET", "POST"],
                allow_headers=["authorization", "content-type"],
            )
        )

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(server.worker.close)
        server.preparing.shutdown(wait=False, cancel_futures=True)

    return Starlette(
        routes=routes,
        middleware=middleware,
        lifespan=lifespan,
        exception_handlers={404: _not_found, 405: _wrong_method, Exception: _unexpected},
    )


async def _not_found(request: Request, _: Exception) -> Response:
    path = display_name(request.url.path)
    return error_response(ApiError(404, f"there is nothing at `{path}`", code="not_found"))


async def _wrong_method(request: Request, _: Exception) -> Response:
    message = f"`{request.method[:20]}` is not possible here"
    return error_response(ApiError(405, message, code="method_not_allowed"))


async def _unexpected(_: Request, error: Exception) -> Response:
    return error_response(to_api_error(error))
