"""What holds for every test: nothing leaves this machine."""

from __future__ import annotations

import os

# before anything imports it: transformers asks its hub only where it may
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"
