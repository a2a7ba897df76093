"""Tensors: what adapters and files of weights share.

sampling      the weights of a spec, drawn by NumPy, the same for every framework
places        where a module of one's own keeps them, as ``where=`` says it
blocks        where a gate's part lies in a tensor
layouts       how each framework stores each cell, and how it names tensors
stacking      which networks take a spec's layers together
selecting     patterns of module paths
application   ``apply``: from a spec and a model to written weights
"""
