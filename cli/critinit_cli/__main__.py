"""``python -m critinit_cli`` is ``critinit``."""

from __future__ import annotations

import sys

from critinit_cli.main import run

sys.exit(run())
