"""The tied theory: one set of weights, as real networks have.

solution   the numbers of a layer, sampled with standard errors
particles  a population of single units in the fields that they make for each other
sources    inputs of a first layer, of few features or infinitely many, correlated in time where that is stated
fields     one recurrent kernel's Gaussian field, exact for Gaussian and Haar kernels
biases     biases drawn by unit
growth     from the course of a perturbation to χ and retention
jacobian   the one-step Jacobian's singular values, from sampled couplings
estimate   a fast estimate without particles
response   the linear response that the estimate rests on
"""
