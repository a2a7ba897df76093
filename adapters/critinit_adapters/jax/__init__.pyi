from critinit_adapters.jax.adapter import ADAPTER as ADAPTER
from critinit_adapters.jax.adapter import JaxAdapter as JaxAdapter
