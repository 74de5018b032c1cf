"""A server on a local port: each line that a client sends is a question, each line back an answer.

Try it: `python docs/examples/async_server.py`, then `nc localhost 8765`.
"""

import asyncio

import smolvideo
from smolvideo import SmolVideoError, Video


async def answer_lines(
    video: Video, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Answer a client until it hangs up; others are served meanwhile."""
    while line := await reader.readline():
        try:
            async for piece in video.astream(line.decode(errors="replace").strip()):
                writer.write(piece.encode())
                await writer.drain()
        except SmolVideoError as error:
            writer.write(f"error: {error}".encode())
        writer.write(b"\n")
    writer.close()
    await writer.wait_closed()


async def main(path: str = "samples/circle_right.mp4", port: int = 8765) -> None:
    async with smolvideo.aopen("nano", path) as video:
        server = await asyncio.start_server(
            lambda reader, writer: answer_lines(video, reader, writer), "localhost", port
        )
        async with server:
            await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
