"""Eqs. 2 to 4: c+_j and c-_j, the relevance that output j hands down per unit of its positive and negative
z_ij.

`joint` is rule 0 and epsilon (Eqs. 2, 3) and gamma, `apart` is alpha-beta (Eq. 4). Here 0/0 is 0.
"""

import numpy as np


def joint(z_pos, z_neg, r, gamma, eps):
    above = z_pos + z_neg >= 0
    pos, neg = np.where(above, 1 + gamma, 1), np.where(above, 1, 1 + gamma)
    unit = _ratio(r, pos * z_pos + neg * z_neg + np.where(above, eps, -eps))
    return pos * unit, neg * unit


def apart(z_pos, z_neg, r, alpha, beta, eps, conserve):
    to_pos, to_neg = alpha * r, -beta * r
    if conserve:  # where one side is empty, the other hands down everything
        to_pos, to_neg = np.where(z_neg == 0, r, to_pos), np.where(z_pos == 0, r, to_neg)
    return _ratio(to_pos, z_pos + eps), _ratio(to_neg, z_neg - eps)


def _ratio(a, b):
    return np.divide(a, b, out=np.zeros_like(b), where=b != 0)
