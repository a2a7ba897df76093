from critinit_adapters.keras.adapter import ADAPTER as ADAPTER
from critinit_adapters.keras.adapter import KerasAdapter as KerasAdapter
from critinit_adapters.keras.adapter import SpecInitializer as SpecInitializer
from critinit_adapters.keras.adapter import initializers as initializers
from critinit_adapters.keras.layout import LAYOUT as LAYOUT
from critinit_adapters.keras.limits import LimitedOptimizer as LimitedOptimizer
from critinit_adapters.keras.watching import DiagnoseTraining as DiagnoseTraining
