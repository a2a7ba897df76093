"""How the entries of kernels and the biases of units are distributed.  One file a distribution.

A *kernel* is a weight matrix of shape (units, fan-in).  Its ``variance`` is Var(entry)·fan-in: σ² of a recurrent
kernel, ν² of an input kernel; the square of the gain of an orthogonal or identity kernel.  A *bias* states the
resulting ``mean`` and ``variance`` over units whatever its distribution, so a reader never has to integrate.

A distribution knows its parameters, its moments, how to draw (``draw``, ``sample``), its quantiles where it has them,
which goodness-of-fit tests numbers of it must pass (``check``) and how to describe itself (``describe``).  Everything
that needs one of these asks it: samplers, simulated networks, both theories, adapters, ``critinit check``, pictures,
tables and the schema.

A distribution of your own: subclass ``EntryKernel`` (independent entries, with a choice of ``fan``), ``Kernel``,
``SpreadBias`` (a time constant for each unit) or ``Bias``; pass it to ``register_distribution``, or publish it under
the entry-point group ``critinit.kernels`` or ``critinit.biases``.
"""

from __future__ import annotations

from critinit.distributions._base import Bias, EntryKernel, Kernel, KernelFamily
from critinit.distributions.constant import ConstantBias
from critinit.distributions.coupled import CoupledBias
from critinit.distributions.drawing import Drawing, NumpyDrawing, haar
from critinit.distributions.goodness import Observed, Outcome
from critinit.distributions.identity import IdentityKernel
from critinit.distributions.normal import NormalBias, NormalKernel
from critinit.distributions.orthogonal import OrthogonalKernel
from critinit.distributions.registry import BIASES, KERNELS, kernel, register_distribution
from critinit.distributions.rotation import RotationKernel
from critinit.distributions.spectral_radius import SpectralRadiusKernel
from critinit.distributions.spread import LogUniformTimeBias, SpreadBias, UniformGateBias, UniformTimeBias
from critinit.distributions.truncated_normal import TruncatedNormalKernel
from critinit.distributions.uniform import UniformKernel
from critinit.distributions.zero import ZeroKernel

__all__ = [
    "BIASES",
    "KERNELS",
    "Bias",
    "ConstantBias",
    "CoupledBias",
    "Drawing",
    "EntryKernel",
    "IdentityKernel",
    "Kernel",
    "KernelFamily",
    "LogUniformTimeBias",
    "NormalBias",
    "NormalKernel",
    "NumpyDrawing",
    "Observed",
    "OrthogonalKernel",
    "Outcome",
    "RotationKernel",
    "SpectralRadiusKernel",
    "SpreadBias",
    "TruncatedNormalKernel",
    "UniformGateBias",
    "UniformKernel",
    "UniformTimeBias",
    "ZeroKernel",
    "haar",
    "kernel",
    "register_distribution",
]
