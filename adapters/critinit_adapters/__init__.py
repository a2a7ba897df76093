"""Adapters: where each framework keeps the numbers that a spec describes.

One file a framework, and beneath them what they share:

    layouts    where each gate lives, one table a framework, shared with files of weights
    layout     what an adapter finds: Tensor, Site, Network, Survey
    planning   from a survey and a spec to a checked plan: what is drawn for every block of every tensor
    adapter    the two kinds of adapter, for models that are written in place and for immutable trees
    journal    the old values, kept until all is written

Importing this package imports no framework.
"""
