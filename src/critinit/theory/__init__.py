"""Mean field theory of recurrent cells.

Notation (as in arXiv:1901.08987): width N, inputs x with second moment R per coordinate.  A gate k has the
pre-activation

    u_k = U_k x + b_k + W_k m_k

with m_k, the *message* of gate k: what its recurrent kernel reads (the state h, or h scaled by another gate).  The
kernel W_k has variance σ_k²/N per entry, U_k has ν_k²/M with M inputs, and the bias b_k has mean μ_k and variance ρ_k².
Q = E h²; C = E h h' over two copies of the network whose states differ; χ = ∂C'/∂C is the growth per step of their
squared distance, ξ = −1/ln χ the time scale in steps, J the state-to-state Jacobian of one step.

*Untied* means weights drawn anew at every step: pre-activations are Gaussian and independent of the state, and every
number is a quadrature (``untied``).  *Tied* is what real networks have: one set of weights, pre-activations correlated
in time; the exact theory at large width is a causal dynamic mean field (``tied``).  ``spectrum`` has the whole density
of the Jacobian's singular values.

Departures from the literature.  A cell is one affine recursion of a scalar memory (``critinit.cells``) and no coupling
is derived by hand.  Averages use whichever of two rules needs fewer nodes (``quadrature``).  Biases that are spread
over units stay with their unit, so populations are split in classes (``parameters``), while normal biases are drawn
anew in the untied theory, as the literature has it.  The distribution of the LSTM's cell is found from its transfer
operator (``untied.memory``).  Layer normalization changes variances and the memory's unit (``normalization``).
"""
