"""PyTorch: ``nn.RNN``, ``nn.GRU``, ``nn.LSTM`` and their cells; callbacks for Lightning and Hugging Face.

Names are imported when they are used: importing this package or its ``layout`` imports no framework.
"""

from critinit import _lazy

__getattr__, __dir__, __all__ = _lazy.attach(__name__, __file__)
