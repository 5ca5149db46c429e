"""Eqs. 2, 3 (`joint`) and Eq. 4 (`apart`): c+_j and c-_j, the relevance that output j hands down per unit of
its positive and of its negative z_ij."""

import numpy as np
from numba import prange

from rotinv.kernels.cpu.jit import kernel


def joint(z_pos, z_neg, r, gamma, eps):
    c_pos, c_neg = np.empty_like(r), np.empty_like(r)
    flat = (z_pos.reshape(-1), z_neg.reshape(-1), r.reshape(-1))
    _joint(*flat, np.float32(1 + gamma), np.float32(eps), c_pos.reshape(-1), c_neg.reshape(-1))
    return c_pos, c_neg


def apart(z_pos, z_neg, r, alpha, beta, eps, conserve):
    c_pos, c_neg = np.empty_like(r), np.empty_like(r)
    flat = (z_pos.reshape(-1), z_neg.reshape(-1), r.reshape(-1))
    weights = np.float32(alpha), np.float32(-beta), np.float32(eps), conserve
    _apart(*flat, *weights, c_pos.reshape(-1), c_neg.reshape(-1))
    return c_pos, c_neg


# Zero divisors are replaced, not skipped by a branch: a loop with branches would not be vectorised.


@kernel
def _joint(z_pos, z_neg, r, more, eps, c_pos, c_neg):
    one, zero = np.float32(1), np.float32(0)
    for i in prange(r.size):
        above = z_pos[i] + z_neg[i] >= 0
        pos, neg = (more, one) if above else (one, more)
        below = pos * z_pos[i] + neg * z_neg[i] + (eps if above else -eps)
        unit = r[i] / (below if below != 0 else one)
        unit = unit if below != 0 else zero
        c_pos[i] = pos * unit
        c_neg[i] = neg * unit


@kernel
def _apart(z_pos, z_neg, r, to_pos, to_neg, eps, conserve, c_pos, c_neg):
    one, zero = np.float32(1), np.float32(0)
    for i in prange(r.size):
        pos = one if conserve and z_neg[i] == 0 else to_pos
        neg = one if conserve and z_pos[i] == 0 else to_neg
        below_pos, below_neg = z_pos[i] + eps, z_neg[i] - eps
        to_pos_side = pos * r[i] / (below_pos if below_pos != 0 else one)
        to_neg_side = neg * r[i] / (below_neg if below_neg != 0 else one)
        c_pos[i] = to_pos_side if below_pos != 0 else zero
        c_neg[i] = to_neg_side if below_neg != 0 else zero
