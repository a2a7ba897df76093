"""Critical initialization of recurrent networks.

``generate`` computes an ``InitSpec`` from mean field theory, for a cell and the number of steps over which it has to
remember.  ``apply`` writes it as weights into a model of any framework.  ``analyze`` says what theory predicts of a
spec, ``simulate`` measures the same numbers on random networks, and ``diagnose`` measures a model of yours.  Importing
``critinit`` imports no framework; what a name needs is imported when the name is used.
"""

from critinit import _lazy
from critinit._version import __version__ as __version__

__getattr__, __dir__, __all__ = _lazy.attach(__name__, __file__)
