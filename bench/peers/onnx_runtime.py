"""The worker that times ONNX Runtime on the CPU, on the network that PyTorch exports."""

import sys

import batches
import onnxruntime
from exported import onnx_file
from interleave import serve


def scorer(path, threads):
    """A function that scores a batch (N, 4, 21, 21)."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda x: session.run(None, {"stamps": x})


if __name__ == "__main__":
    operation, threads = sys.argv[1], int(sys.argv[2])
    with onnx_file(operation.split()[0]) as path:
        score = scorer(path, threads)
    name, run = batches.fastest({f"ONNX Runtime {onnxruntime.__version__}": score}, batches.stamps(operation))
    serve(name, run)
