"""What the adapters share, in the order in which ``apply`` uses it.

    survey       what an adapter finds in a model: modules, layers, tensors
    classes      what a class says of a module: whether it overrides a known step, whether it looks recurrent
    own          from what a user says of a module of one's own to a survey
    planning     from a survey and a spec to a checked plan of what is drawn for every block of every tensor
    adapter      the two kinds of adapter: models that are written in place, and immutable trees
    verifying    a model held to its cell's equations, with other weights
    journal      old values, kept until all is written
    measuring    what stands in a tensor after writing
    activations  whether a layer's activation is the one that the theory is for
    declared     the numbers of one tensor, for layers that are declared with a spec
    defaults     what frameworks draw by default, and whether a tensor still holds it
    jax_arrays   what the frameworks on JAX share; the only one of these that imports a framework

A new adapter needs ``survey`` and ``adapter``.
"""
