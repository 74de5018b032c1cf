"""Tools for agents: questions about local videos, answered with text and times, no pictures.

video_tools.py   what the tools do: allowed paths, open videos, answers
mcp_server.py    the same over the Model Context Protocol, on stdin and stdout

The extra ``[mcp]`` installs the protocol.
"""

from smolvideo.agent_tools.video_tools import VideoTools

__all__ = ["VideoTools"]
