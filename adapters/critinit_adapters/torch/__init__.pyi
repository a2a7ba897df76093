from critinit_adapters.torch.adapter import ADAPTER as ADAPTER
from critinit_adapters.torch.adapter import TorchAdapter as TorchAdapter
from critinit_adapters.torch.huggingface import LimitSteps as LimitSteps
from critinit_adapters.torch.huggingface import init_weights as init_weights
from critinit_adapters.torch.layout import LAYOUT as LAYOUT
from critinit_adapters.torch.lightning import CriticalInit as CriticalInit
from critinit_adapters.torch.limits import step_groups as step_groups
