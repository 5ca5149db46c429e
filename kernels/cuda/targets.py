"""R at the logits of a class that is chosen on the GPU (rotinv.nn.depth_first.TargetKernels)."""

from rotinv.kernels.cuda.launch import blocks_for

_ROWS = 64  # threads of a block, a stamp each
_WHAT = {"predicted": 0, "probability": 1, "one": 2, "difference": 3}


def relevance(on, z, what, given, candidate, threshold):
    n, classes = z.shape
    r = on.empty(z.shape)
    chosen = _WHAT[what], given, candidate, threshold
    on.launch("targets_relevance", blocks_for(n, _ROWS), _ROWS, z, r, *chosen, n, classes)
    return r
