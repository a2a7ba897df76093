"""Keras 3, on every backend.

Names are imported when they are used: importing this package or its ``layout`` imports no framework.  Where Keras is
imported already, importing this package makes its initializers known to Keras, so that saved models load.
"""

import sys
from importlib import import_module

from critinit import _lazy

__getattr__, __dir__, __all__ = _lazy.attach(__name__, __file__)

if "keras" in sys.modules:
    import_module(f"{__name__}.adapter")
