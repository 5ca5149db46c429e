"""How far p(candidate) is off in each precision of scoring on a GPU, found without one.

    python bench/gpu/errors.py RUN STORE [STAMPS]   # a trained network, the first test stamps of a store
    python bench/gpu/errors.py AUTHORS              # authors_cap_3channel.h5: theirs, on Rubin alerts

The emulator (tests/cuda_emulation) rounds as the kernels do, but is too slow for thousands of stamps. Here
only what the convolutions and the first dense layer read, and their weights, are rounded to 10 bits of
mantissa, and the sums are those of the cpu, in float32. "fp32" is the cpu itself beside float64, on at most
500 stamps.
"""

import sys
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from rotinv.nn import architectures
from rotinv.nn.devices import get_kernels
from rotinv.nn.layers import SCORE, Params
from rotinv.nn.linear import Conv2d, Dense
from rotinv.nn.network import Network
from rotinv.runs.model import load_model
from rotinv.runs.predictions import score_stamps
from rotinv.stamps.pixels import prepare
from rotinv.stamps.store import StampStore

CPU = get_kernels("cpu")
EXACT = 500  # stamps that are scored in float64, which takes some hundredths of a second each


def to_tf32(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rounded to 10 bits of mantissa, ties away from zero, as cvt.rna.tf32.f32."""
    return ((np.ascontiguousarray(x).view(np.uint32) + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(
        np.float32
    )


def to_fp16(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rounded to halves, ties to even, as cvt.rn.f16.f32."""
    return x.astype(np.float16).astype(np.float32)


ROUNDED = {"tf32": to_tf32, "fp16": to_fp16}


def scored(network: Network, params: NDArray[np.float32], x: NDArray[np.float32], precision: str) -> NDArray:
    """p(candidate) of stamps, with the operands of a precision."""
    rounded, first = ROUNDED[precision], True

    def weights(p: Params) -> Params:
        return {"w": rounded(p["w"]), "b": p["b"]}

    for layer, p in zip(network.layers, network.views(params), strict=True):
        if isinstance(layer, Conv2d) or (isinstance(layer, Dense) and first):
            x, p = rounded(x), weights(p)
            first &= isinstance(layer, Conv2d)
        x, _ = layer.forward(CPU, p, x, SCORE)
    return CPU.softmax.forward(x)[:, 1]


def of_store(run: str, store: str, count: int) -> tuple[Network, NDArray, NDArray]:
    """A run's network and weights, and test stamps as it reads them."""
    model = load_model(Path(run))
    with StampStore(Path(store)) as opened:
        split = opened.split("test")
        stamps, _ = prepare(
            split.raw(np.arange(min(count, len(split)))), split.normalisation, model.config.size
        )
    return model.network, np.float32(model.params), stamps


def of_authors(path: str) -> tuple[Network, NDArray, NDArray]:
    """The authors' CAP, and their alerts."""
    with h5py.File(path) as file:
        stamps = np.ascontiguousarray(np.moveaxis(file["check/rubin_input_nchw"][:], 1, 3), np.float32)
        names = [f"CNN{i}" for i in range(1, 6)] + [f"FC{i}" for i in range(1, 4)]
        parts = [file[f"{name}/{kind}"][:].ravel() for name in names for kind in "WB"]
    return architectures.build("cap", 21, 3), np.float32(np.concatenate(parts)), stamps


def main(arguments: list[str]) -> int:
    """Print the table."""
    found = (
        of_authors(*arguments)
        if len(arguments) == 1
        else of_store(*arguments[:2], int((*arguments, 10_000)[2]))
    )
    network, params, stamps = found
    p = score_stamps(CPU, network, params, stamps)
    few = stamps[:EXACT]
    exact = score_stamps(get_kernels("reference"), network, np.float64(params), np.float64(few))
    apart = {"fp32": p[: len(few)] - exact}
    for precision in ROUNDED:
        blocks = np.array_split(stamps, max(1, len(stamps) // 200))
        apart[precision] = np.concatenate([scored(network, params, block, precision) for block in blocks]) - p
    for precision, dp in apart.items():
        sides = int(((p[: len(dp)] >= 0.5) != (p[: len(dp)] + dp >= 0.5)).sum())
        print(f"{precision}: {len(dp)} stamps, largest |dp| {np.abs(dp).max():.2e}, "
              f"rms {np.sqrt(np.mean(dp**2)):.2e}, on the other side of 0.5: {sides}")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
