from critinit_adapters.haiku.adapter import ADAPTER as ADAPTER
from critinit_adapters.haiku.adapter import HaikuAdapter as HaikuAdapter
from critinit_adapters.haiku.adapter import initializers as initializers
from critinit_adapters.haiku.layout import LAYOUT as LAYOUT
