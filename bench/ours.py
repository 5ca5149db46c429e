"""The worker that times rotinv."""

import sys

from interleave import serve
from operations import operation
from peak import peak

from rotinv.nn.devices import get_kernels

if __name__ == "__main__":
    name, threads = sys.argv[1], int(sys.argv[2])
    k = get_kernels("cpu", threads)
    run, flops = peak(threads) if name == "peak" else operation(k, name)
    serve("rotinv", run, flops)
