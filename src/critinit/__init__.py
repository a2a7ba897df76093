"""Critical initialization of recurrent networks.

``generate`` computes an ``InitSpec`` for a cell and a sequence length from mean field theory, ``analyze`` says what
theory knows of a spec, ``apply`` writes it as weights into the given model of any framework, and ``simulate`` measures
the same numbers on a network.  Importing ``critinit`` imports no framework, and what a name needs only when the name is
used.
"""

from critinit import _lazy
from critinit._version import __version__ as __version__

__getattr__, __dir__, __all__ = _lazy.attach(__name__, __file__)
