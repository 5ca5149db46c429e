"""How time and memory grow with the batch, the map, the channels, the threads and the number of stamps."""

import os
from pathlib import Path
from typing import NamedTuple


class Series(NamedTuple):
    """One quantity that grows: its values, and the operation for each value."""

    operation: str  # with {} where the value goes
    values: tuple[int, ...]
    power: int = 1  # the arithmetic grows as this power of the value


SERIES = {
    "stamps in a batch, training": Series("cap training {}", (5, 10, 25, 50, 100, 200)),
    "stamps in a batch, scoring": Series("cap scoring {}", (5, 10, 25, 50, 100, 200)),
    "side of the map, pixels": Series("conv2d forward 50x{0}x{0}x32 3x3x32 pad 1", (6, 12, 24, 48, 96), 2),
    "channels": Series("conv2d forward 50x24x24x{0} 3x3x{0} pad 1", (8, 16, 32, 64, 128), 2),
}
STAMPS = (8_000, 16_000, 32_000, 64_000)  # scored by the program from a store; it holds two blocks of 2,000


def threads() -> list[int]:
    """1, 2, 4 … up to the machine's cores."""
    cores = os.cpu_count() or 1
    return [n for n in (1, 2, 4, 8, 16, 32, 64) if n <= cores]


def picture(path: Path, curves: dict[str, list[dict]]) -> None:
    """Draw a panel for each curve: ms on the left, on log scales; MB of the whole process on the right.

    The dotted line is how the arithmetic grows, drawn through the last point.
    """
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 3, figsize=(12, 7), layout="constrained")
    for axis, (name, points) in zip(axes.flat, curves.items(), strict=False):
        x = [point["value"] for point in points]
        axis.loglog(x, [point["ms"] for point in points], "o-", color="tab:blue", label="time")
        arithmetic = [points[-1]["ms"] * (v / x[-1]) ** points[-1]["power"] for v in x]
        axis.loglog(x, arithmetic, ":", color="tab:blue", label="arithmetic")
        axis.set(xlabel=name, ylabel="ms")
        axis.set_xticks(x, [f"{v:,}" for v in x], minor=False)
        axis.set_xticks([], minor=True)
        memory = axis.twinx()
        memory.plot(x, [point["memory_mb"] for point in points], "s--", color="tab:red", label="memory")
        memory.set_ylim(0, 1.2 * max(point["memory_mb"] for point in points))
        memory.set_ylabel("MB, whole process", color="tab:red")
        axis.legend(frameon=False, loc="upper center")
    for axis in axes.flat[len(curves) :]:
        axis.set_axis_off()
    figure.savefig(path, dpi=120)
    plt.close(figure)
