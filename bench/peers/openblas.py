"""The worker that times NumPy's matrix products (OpenBLAS, most often) on the dense layers' shapes."""

import sys

import numpy as np
from interleave import serve

if __name__ == "__main__":
    _, what, shape = sys.argv[1].split()
    n, c, o = map(int, shape.split("x"))
    rng = np.random.default_rng(0)
    x, w, dz = (rng.normal(size=size).astype(np.float32) for size in ((n, c), (c, o), (n, o)))
    run = {
        "forward": lambda: x @ w,
        "backward_input": lambda: dz @ w.T,
        "backward_params": lambda: (x.T @ dz, dz.sum(axis=0)),
    }[what]
    serve(f"NumPy {np.__version__}", run)
