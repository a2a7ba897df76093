"""The whole distribution of the one-step Jacobian's singular values.

density    the density, from couplings over units
resolvent  the matrix equation behind it
couplings  couplings of a population, sampled
"""
