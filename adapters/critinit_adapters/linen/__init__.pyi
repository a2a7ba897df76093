from critinit_adapters.linen.adapter import ADAPTER as ADAPTER
from critinit_adapters.linen.adapter import LinenAdapter as LinenAdapter
from critinit_adapters.linen.adapter import initializers as initializers
from critinit_adapters.linen.layout import LAYOUT as LAYOUT
