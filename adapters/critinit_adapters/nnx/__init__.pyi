from critinit_adapters.nnx.adapter import ADAPTER as ADAPTER
from critinit_adapters.nnx.adapter import NnxAdapter as NnxAdapter
from critinit_adapters.nnx.adapter import initializers as initializers
from critinit_adapters.nnx.layout import LAYOUT as LAYOUT
