"""Refining and pruning, each formula against an independent computation."""
