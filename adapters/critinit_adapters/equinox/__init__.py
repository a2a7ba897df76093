"""Equinox: cells anywhere in a tree.

Names are imported when they are used: importing this package or its ``layout`` imports no framework.
"""

from critinit import _lazy

__getattr__, __dir__, __all__ = _lazy.attach(__name__, __file__)
