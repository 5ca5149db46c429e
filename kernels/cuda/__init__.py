"""Hand-written CUDA, float32: the reference's equations for NVIDIA GPUs.

sources/X.cu holds a family's kernels, X.py their launches, sources/include/ what several share. The first
argument of a function of X.py, `on`, is the device to run on (launch.py); rotinv.nn.devices binds it.
"""
