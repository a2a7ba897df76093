"""Refining: change the weights that a model has, by measuring it on its user's inputs.

layers      a recurrent layer as it stands in a model, and its step with tangents, in any library of arrays
flossing    bring Lyapunov exponents towards 0 (Engelken 2023)
metainit    tune the norms of weights (Dauphin & Schoenholz 2019)
refine      ``critinit.refine``: either of them on a model, all or nothing, with a report
prune       ``critinit.prune``: masks by the Jacobian (Zhang & Stadie 2019), by SNIP, by size

The core states the mathematics once, in the cells' own functions; an adapter lends the automatic derivatives of its
framework (``critinit.foreign``), and says what a model's loss is as a function of its weights.
"""
