"""Eqs. 2, 3 (`joint`) and Eq. 4 (`apart`): c+_j and c-_j, the relevance that output j hands down per unit of
its positive and of its negative z_ij."""

from rotinv.kernels.cuda.launch import THREADS, blocks_for


def joint(on, z_pos, z_neg, r, gamma, eps):
    c_pos, c_neg = on.empty(r.shape), on.empty(r.shape)
    grid = blocks_for(r.size), THREADS
    on.launch("shares_joint", *grid, z_pos, z_neg, r, 1 + gamma, eps, c_pos, c_neg, r.size)
    return c_pos, c_neg


def apart(on, z_pos, z_neg, r, alpha, beta, eps, conserve):
    c_pos, c_neg = on.empty(r.shape), on.empty(r.shape)
    grid = blocks_for(r.size), THREADS
    numbers = (alpha, -beta, eps, int(conserve))
    on.launch("shares_apart", *grid, z_pos, z_neg, r, *numbers, c_pos, c_neg, r.size)
    return c_pos, c_neg
