"""Where each framework keeps each gate: one table a framework, and no framework imported.

The adapters attach models to these tables; ``critinit.check`` and ``critinit.materialize`` use them on files.  Each
module publishes its ``LAYOUT`` under the entry-point group ``critinit.layouts``.
"""
