"""What recurrent layers really do, with their present weights and on real inputs; fresh or trained.

The theory describes random weights and white inputs.  Here a layer of a model, or of a file, runs on a few real
sequences, and the same numbers are measured, with exact derivatives and in NumPy, so for all frameworks alike:

    course       a layer runs over sequences, and the derivatives of every step
    sweeps       perturbations carried forward, gradients carried back, one-step Jacobians
    numbers      the numbers of a layer
    findings     what is wrong, in words
    stated       what the weights say of the spec that they should have started from
    compared     what they say beside those of an earlier time
    result       the result, which prints as tables and as JSON
    diagnosing   ``critinit.diagnose``: models
    files        weights and data in files, where no framework is needed
    watching     numbers at every n-th step of a training
"""
