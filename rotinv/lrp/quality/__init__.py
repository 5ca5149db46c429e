"""How good maps are, measured on a trained network.

The maps that are compared are in ways.py. Regions of the stamps are replaced by noise (AOPC, deletion and
insertion, perturbation.py), or the weights, layer by layer (MPRT, randomisation.py). similarity.py tells how
alike two maps are and how complex one is; measures.py makes perturb's tables, curves and pictures.
"""
