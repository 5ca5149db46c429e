"""The worker that times OpenVINO on the CPU, on the network that PyTorch exports.

Its third argument is the precision: `f32`, or `bf16`, which OpenVINO takes by itself where it can.
Its two ways are tried: one batch after the other on all threads ("latency"), and several at once, a thread
each ("throughput").
"""

import sys

import batches
import openvino
from exported import onnx_file
from interleave import serve


def scorer(model, threads, precision, hint):
    """A function that scores a batch (N, 4, 21, 21)."""
    options = {
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": precision,
        "PERFORMANCE_HINT": hint.upper(),
    }
    compiled = openvino.Core().compile_model(model, "CPU", options)
    if hint == "latency":
        return lambda x: compiled({"stamps": x})
    queue = openvino.AsyncInferQueue(compiled)
    parts = max(1, threads)

    def score(x):
        size = -(-len(x) // parts)
        for first in range(0, len(x), size):
            queue.start_async({"stamps": x[first : first + size]})
        queue.wait_all()

    return score


if __name__ == "__main__":
    operation, threads, precision = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    with onnx_file(operation.split()[0]) as path:
        model = openvino.Core().read_model(path)
    version = openvino.__version__.split("-")[0]
    ways = {
        f"OpenVINO {version} {precision} {hint}": scorer(model, threads, precision, hint)
        for hint in ("latency", "throughput")
    }
    name, run = batches.fastest(ways, batches.stamps(operation))
    serve(name, run)
