"""JAX without a framework: arrays, and trees of arrays, of which ``where=`` says what they hold.

Names are imported when they are used: importing this package imports no framework.
"""

from critinit import _lazy

__getattr__, __dir__, __all__ = _lazy.attach(__name__, __file__)
