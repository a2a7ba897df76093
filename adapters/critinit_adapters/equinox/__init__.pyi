from critinit_adapters.equinox.adapter import ADAPTER as ADAPTER
from critinit_adapters.equinox.adapter import EquinoxAdapter as EquinoxAdapter
from critinit_adapters.equinox.layout import LAYOUT as LAYOUT
