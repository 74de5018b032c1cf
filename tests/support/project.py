"""The folders of the project and of the shared files that tests read."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
SHARED = Path(os.environ.get("SMOLVIDEO_SHARED", ROOT.parent / "shared"))
