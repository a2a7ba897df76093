"""Measurements: ``python -m benchmarks --list`` names them, ``python -m benchmarks [NAME …]`` runs them.

Each module measures one thing, prints a small table, and can be run alone: ``python -m benchmarks.grid``.
"""
