"""Adapters: how each framework's recurrent layers take the weights that a spec describes.

A framework is one folder, here or in a package of your own:

    layout.py    where each gate lives in the framework's tensors; imports no framework
    adapter.py   finds the framework's layers in a model, reads and writes a tensor

``torch`` has two files more, ``lightning`` and ``huggingface``.  ``jax`` has no layout: it takes bare arrays, of which
the user says what they hold.  ``shared`` is what the adapters have in common.  The
frameworks' folders export their names lazily: importing this package, a folder or a layout imports no framework.
"""
