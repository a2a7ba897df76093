"""Simulated networks: the theory's numbers measured on a network of a given width."""

from __future__ import annotations

from critinit.simulation.measure import Measurement, Progress, simulate, simulate_layer
from critinit.theory.protocol import Inputs

__all__ = ["Inputs", "Measurement", "Progress", "simulate", "simulate_layer"]
