"""Weights in files: ``check`` holds a checkpoint against a spec, ``materialize`` writes one.

layout (one level up)  where each framework keeps each gate
reading                tensors in files
finding                the recurrent networks among them
effective              their numbers in canonical form
laws                   whether numbers follow a law
hints                  what a mismatch looks like
checking               all of it: ``check``
materializing          ``materialize``
canonical              critinit's own layout
"""
