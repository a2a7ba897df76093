"""Mean field theory of recurrent cells.

Notation (as in arXiv:1901.08987): width N, inputs x with second moment R per coordinate; a gate k reads a message m_k
through a kernel W_k of variance σ_k²/N per entry, the input through U_k of variance ν_k²/M, and has a bias of mean μ_k
and variance ρ_k².  Q = E h², C = E h h' over two copies, χ = ∂C'/∂C the growth per step of their squared distance,
ξ = −1/ln χ the time scale in steps, J the state-to-state Jacobian of one step.

*Untied* means weights drawn anew at every step: pre-activations are Gaussian and independent of the state, and every
number is a quadrature (``untied``).  *Tied* is what real networks have: one set of weights, pre-activations correlated
in time; the exact theory at large width is a causal dynamic mean field (``tied``).

Departures from the literature: cells are one affine recursion of a scalar memory (``critinit.cells``) and no coupling
is derived by hand; averages use whichever of two rules needs fewer nodes (``quadrature``); biases that are spread over
units stay with their unit, so populations are split in classes (``points``), while normal biases are drawn anew in the
untied theory, as the literature has it; the distribution of the LSTM's cell is found from its transfer operator (``untied.memory``).
"""
