"""Weights in files: ``check`` compares a checkpoint with a spec, ``materialize`` writes one.

    reading        tensors in files
    finding        the recurrent networks among them
    effective      their numbers in canonical form
    comparing      the tests of one gate's part
    hints          what a mismatch looks like
    trained        whether weights look trained
    checking       all of it: ``check``
    materializing  ``materialize``
    canonical      critinit's own layout

Where each framework keeps each gate, ``critinit.tensors.layouts`` says.
"""
