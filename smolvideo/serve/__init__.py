"""``smolvideo serve``: an OpenAI-compatible server for questions about video.

listen.py          bind, load the model, run
app.py             the ASGI application; access.py checks host, origin and key before anything else
chat_routes.py     /v1/chat/completions; video_routes.py, ollama.py and pages.py the other paths
chat_request.py    a request checked; media_parts.py every form in which clients send media
media_store.py     media as files; remote_media.py those that a request only names
chat.py            a request prepared in a thread, and answered in that of the engine
worker.py          the engine's thread: queue, cancelling, sessions by the pixels of their media
chat_response.py   OpenAI's responses and events

The extra ``[serve]`` installs starlette, uvicorn and prometheus-client.
"""

from smolvideo.serve.options import ServerOptions

__all__ = ["ServerOptions"]
