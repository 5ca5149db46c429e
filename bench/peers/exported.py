"""The networks of pytorch.py as ONNX files, for the runtimes that are timed on them.

`python exported.py ARCH FILE` writes one; `onnx_file` does so in a process of its own, so that PyTorch's
threads and memory are not those of the process that is timed.
"""

import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def onnx_file(arch: str) -> Iterator[Path]:
    """The ONNX file of a network: `stamps` (N, 4, 21, 21), N of any size, to `probabilities` (N, 2)."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{arch}.onnx"
        subprocess.run([sys.executable, __file__, arch, str(path)], check=True, stdout=subprocess.DEVNULL)
        yield path


def export(arch: str, path: Path) -> None:
    """Write the network with PyTorch's exporter."""
    import torch
    from pytorch import Net

    torch.manual_seed(0)
    net = torch.nn.Sequential(Net(arch), torch.nn.Softmax(dim=1)).eval()
    batch = torch.export.Dim("batch", min=2)
    torch.onnx.export(
        net,
        (torch.rand(8, 4, 21, 21),),
        path,
        input_names=["stamps"],
        output_names=["probabilities"],
        dynamic_shapes=({0: batch},),
        dynamo=True,
        external_data=False,
        verbose=False,
    )


if __name__ == "__main__":
    export(sys.argv[1], Path(sys.argv[2]))
