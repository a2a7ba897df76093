"""The untied theory: weights drawn anew at every step, the paper's setting.

solution   the fixed point, χ, retention and the Jacobian, for a whole grid at once
averages   Gaussian averages of what a cell's gates do
memory     the distribution of a memory that is read through a nonlinearity (the LSTM's c)
"""
