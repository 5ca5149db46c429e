"""The CUDA kernels' own sources, compiled by g++ and run on NumPy arrays: no GPU is needed to test them."""
