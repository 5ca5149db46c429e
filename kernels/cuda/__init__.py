"""Hand-written CUDA, float32: the reference's equations for NVIDIA GPUs.

X.cu holds a family's kernels, X.py their launches, tiles.cuh what products share. The first argument of a
function of X.py, `on`, is the device to run on (launch.py); rotinv.devices binds it.
"""
