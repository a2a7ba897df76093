"""Tensors: what adapters and files of weights share.

sampling      the weights of a spec, drawn by NumPy, the same for every framework
places        where a module of one's own keeps them, as ``where=`` says it
blocks        where a gate's part lies in a tensor
convolutions  kernels of convolutions: which of their taps a draw fills
grouping      where the draws of groups of units go, and their limits on steps
layouts       how each framework stores each cell, and how it names tensors
states        where learnable initial states can start
stacking      which networks take a spec's layers together
selecting     patterns of module paths
application   ``apply``: from a spec and a model to written weights
"""
