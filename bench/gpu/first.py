"""The first minute on a card: is scoring depth first right, how fast is it, and what does the card give?

    python3 bench/gpu/first.py

Each part stands alone; what fails is told and the next goes on. The exit status is 1 if a result is wrong.
"""

import re
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from rotinv.lrp import composites
from rotinv.lrp.relevance import Trail, prepared, relevance
from rotinv.nn import architectures
from rotinv.nn.contract import Kernels
from rotinv.nn.devices import get_kernels
from rotinv.nn.network import Network
from rotinv.runs import training
from rotinv.runs.protocol import QUICK, Progress

HERE = Path(__file__).resolve().parent
STEP_TOLERANCE = 1e-2  # of losses and parameters of three steps, which tf32 rounds
TOLERANCE = {"fp16": 2e-3, "tf32": 2e-3, "fp32": 1e-4}  # of the largest logit


def drawn(arch: str, count: int) -> tuple[Network, np.ndarray, np.ndarray]:
    """A network, weights and stamps."""
    network, rng = architectures.build(arch), np.random.default_rng(0)
    params = np.float32(network.initial("he", 1))
    return network, params, np.float32(rng.uniform(size=(count, *network.in_shape)))


def wrong(k: Kernels, precision: str, arch: str, count: int) -> list[str]:
    """What is wrong with a network's scores of `count` stamps; nothing if all is as it must be."""
    network, params, x = drawn(arch, count)
    there = k.asarray(params)

    def scored(stamps: np.ndarray) -> list[np.ndarray]:
        stamps = np.ascontiguousarray(stamps)
        return [k.to_host(found) for found in network.forward_rotations(k, there, k.asarray(stamps))]

    logits, each, units = scored(x)
    few = min(count, 4)
    exact = network.forward(get_kernels("reference"), np.float64(params), np.float64(x[:few]))
    error = np.abs(logits[:few] - exact).max() / np.abs(exact).max()
    turned, again, alone = scored(np.rot90(x, axes=(1, 2))), scored(x), scored(x[-1:])
    checks = {
        f"the error is {error:.1e}": error <= TOLERANCE[precision],
        "a second call gives other bits": all(map(np.array_equal, again, (logits, each, units))),
        "turned stamps have other bits": np.array_equal(turned[1], np.roll(each, -1, axis=0)),
        "a stamp alone has other bits": np.array_equal(alone[0][0], logits[-1]),
        "some logits are not finite": bool(np.isfinite(logits).all()),
    }
    if arch == "cap":
        checks["turned stamps score otherwise"] = np.array_equal(turned[0], logits)
    return [what for what, right in checks.items() if not right]


def correct() -> bool:
    """Tell what is wrong in each precision, of both networks."""
    found = False
    for precision in TOLERANCE:
        k = get_kernels("cuda", precision=precision)
        for arch in ("cap", "deephits"):
            said = wrong(k, precision, arch, 300)
            found |= bool(said)
            print(f"{arch} {precision}: {'; '.join(said) or 'right'}", flush=True)
    return not found


def trained(k: Kernels, arch: str, count: int) -> np.ndarray:
    """The losses of three steps, the last two replayed, on `count` stamps, and the parameters after them."""
    network, params, x = drawn(arch, count)
    there, grads, schedule = k.asarray(params.copy()), k.zeros((network.size,)), replace(QUICK, rate=0.01)
    run = training.Run(k, network, schedule, 1, Path(), there, grads, 0, Progress(3))
    losses = [k.to_host(training.step(run, x, np.arange(count) % 2)) for _ in range(3)]
    return np.concatenate([*losses, k.to_host(run.params)])


def wrong_steps(k: Kernels, arch: str, count: int) -> list[str]:
    """What is wrong with training steps in tf32, beside the CPU's."""
    found, again, exact = (
        trained(k, arch, count),
        trained(k, arch, count),
        trained(get_kernels("cpu"), arch, count),
    )
    error = (np.abs(found - exact) / (1 + np.abs(exact))).max()
    checks = {
        f"the steps' error is {error:.1e}": error <= STEP_TOLERANCE,
        "again they have other bits": np.array_equal(found, again),
    }
    return [what for what, right in checks.items() if not right]


def steps() -> bool:
    """Tell what is wrong with the training steps of both networks."""
    said = {
        arch: wrong_steps(get_kernels("cuda", precision="tf32"), arch, 50) for arch in ("cap", "deephits")
    }
    for arch, what in said.items():
        print(f"{arch}, three steps: {'; '.join(what) or 'right'}", flush=True)
    return not any(said.values())


def wrong_maps(k: Kernels, arch: str, count: int) -> list[str]:
    """What is wrong with relevance as one graph, beside the pass launch by launch and the reference's."""
    network, params, x = drawn(arch, count)
    there, rules = k.asarray(params), composites.named("alpha2beta1")
    of_block = prepared(k, network, there, rules)

    def on_host(trail: Trail) -> list[np.ndarray]:
        return [k.to_host(array) for array in trail.relevance]

    expected = on_host(relevance(k, network, there, k.asarray(x), rules))
    few, reference = x[:2], get_kernels("reference")
    exact = relevance(reference, network, np.float64(params), np.float64(few), rules).relevance[-1]
    error = np.abs(expected[-1][: len(few)] - exact).max() / np.abs(exact).max()
    checks = {f"the error of R at the logits is {error:.1e}": error <= TOLERANCE["fp32"]}
    for which in ("run", "captured", "replayed"):
        same = map(np.array_equal, on_host(of_block(k.asarray(x))), expected)
        checks[f"the pass that is {which} has other bits"] = all(same)
    return [what for what, right in checks.items() if not right]


def maps() -> bool:
    """Tell what is wrong with maps of relevance, and how long they take launch by launch and as one graph."""
    k, said = get_kernels("cuda"), list[str]()
    for arch in ("cap", "deephits"):
        said += (found := wrong_maps(k, arch, 50))
        print(f"{arch}, maps: {'; '.join(found) or 'right'}", flush=True)
    network, params, x = drawn("cap", 50)
    there, stamps, rules = k.asarray(params), k.asarray(x), composites.named("alpha2beta1")
    of_block = prepared(k, network, there, rules)
    of_block(stamps)
    for how, run in (
        ("launch by launch", lambda: relevance(k, network, there, stamps, rules)),
        ("one graph", lambda: of_block(stamps)),
    ):
        ms, spread = milliseconds(run)
        print(f"cap, 50 maps, {how}: {ms:.3f} ms, spread {spread:.0%}", flush=True)
    return not said


def milliseconds(run: Callable[[], object], repeats: int = 20) -> tuple[float, float]:
    """The median over five rounds of one run, and (max - min) / median."""
    import cupy

    run()
    cupy.cuda.Device().synchronize()
    times, stream = [], cupy.cuda.get_current_stream()
    for _ in range(5):
        begin, end = cupy.cuda.Event(), cupy.cuda.Event()
        begin.record(stream)
        for _ in range(repeats):
            run()
        end.record(stream)
        end.synchronize()
        times.append(cupy.cuda.get_elapsed_time(begin, end) / repeats)
    return float(np.median(times)), (max(times) - min(times)) / float(np.median(times))


def speed() -> bool:
    """Scoring of 2,000 and of 50 stamps that are on the GPU."""
    for precision in TOLERANCE:
        k = get_kernels("cuda", precision=precision)
        for arch, count in (("cap", 2000), ("cap", 50), ("deephits", 2000)):
            network, params, x = drawn(arch, count)
            there, stamps = k.asarray(params), k.asarray(x)
            ms, spread = milliseconds(lambda: network.forward(k, there, stamps))  # noqa: B023
            flops = 2 * 19.9e6 * 4 * count
            print(f"{arch} {precision}, {count} stamps: {ms:.3f} ms, spread {spread:.0%}, "
                  f"{flops / ms / 1e9:.0f} TFLOP/s", flush=True)  # fmt: skip
    return True


def rates_source() -> str:
    """rates.cu with the kernels' own includes in it."""
    from rotinv.kernels.cuda import launch

    text, folder = (HERE / "rates.cu").read_text(encoding="utf-8"), launch.SOURCES
    return re.sub(
        r'^#include "(\S+)"$', lambda m: (folder / m[1]).read_text(encoding="utf-8"), text, flags=re.M
    )


def rates() -> bool:
    """What the card gives, each beside what the design reckons with on an H100 or H200."""
    import cupy

    module, made = cupy.RawModule(code=rates_source(), options=("-std=c++17",)), {}
    multiprocessors = cupy.cuda.Device().attributes["MultiProcessorCount"]
    out = cupy.zeros(multiprocessors * 2048, np.float32)

    def timed(name: str, blocks: int, threads: int, *args: object, shared: int = 0) -> float:
        function = made.setdefault(name, module.get_function(f"rate_{name}"))
        if shared:
            function.max_dynamic_shared_size_bytes = shared
        return milliseconds(lambda: function((blocks,), (threads,), args, shared_mem=shared), 3)[0]

    loops, blocks = 4000, 2 * multiprocessors
    for name, products, macs, expected in (
        ("fp16", 24, 2048, 610), ("tf32", 24, 1024, 305), ("step", 72, 2048, 550)
    ):  # fmt: skip
        ms = timed(name, blocks, 192, out, np.int32(loops), shared=65536 if name == "step" else 0)
        flops = 2 * blocks * 6 * loops * products * macs
        print(f"rate of {name}: {flops / ms / 1e9:.0f} TFLOP/s (expected {expected})", flush=True)
    ms = timed("loads", blocks, 192, out, np.int32(loops), shared=65536)
    print(f"loads of matrices: {blocks * 6 * loops * 8 * 512 / ms / 1e9:.1f} TB/s (expected 27)", flush=True)
    x = cupy.zeros(4 << 20, np.float32)
    ms = timed("cache", 4 * multiprocessors, 512, x, out, np.int32(x.size // 4), np.int32(256))
    print(
        f"second cache: {4 * multiprocessors * 512 * 256 * 16 / ms / 1e9:.1f} TB/s (expected 5.5 to 6)",
        flush=True,
    )
    return True


def main() -> int:
    """All parts; 1 if one is wrong or fails."""
    failed = False
    for part in (correct, steps, maps, speed, rates):
        began = time.perf_counter()
        try:
            failed |= not part()
        except Exception:  # the card's time is short: the next part goes on
            traceback.print_exc()
            failed = True
        print(f"[{part.__name__}: {time.perf_counter() - began:.0f} s]", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
