"""The CUDA kernels without a GPU: emulated, each against the reference; and compiled by NVRTC."""

import hashlib
import os

import numpy as np
import pytest
from conftest import TOLERANCE
from cuda_emulation.device import ORDERS, EmulatedDevice, EmulationError, cache_folder, why_not

from rotinv.kernels.cuda import launch, nvrtc
from rotinv.lrp import targets
from rotinv.nn.devices import cuda_kernels, get_kernels
from rotinv.stamps.classes import Classes

needs_emulator = pytest.mark.skipif(bool(why_not()), reason=why_not() or "-")
needs_nvrtc = pytest.mark.skipif(nvrtc.library() is None, reason="NVRTC is not installed (extra cuda-check)")
KERNELS = {name: found for family in launch.FAMILIES for name, found in launch.declarations(family).items()}


def convolution(passed, side, c, o, size, pad, **more):
    """A case of a kernel of conv2d: numbers are drawn alike for every device."""

    def case(k, rng):
        n, out = 3, side + 2 * pad - size + 1
        x = k.asarray(rng.normal(size=(n, side, side, c)))
        w, b = k.asarray(rng.normal(size=(size, size, c, o))), k.asarray(rng.normal(size=o))
        dz, also = (k.asarray(rng.normal(size=(n, out, out, o))) for _ in range(2))
        if passed == "forward":
            y, _ = k.conv2d.forward(
                x, w, b, pad, 0.1, more.get("pool", 1)
            )  # rounding may choose other winners
            return [y]
        if passed == "contributions":
            return k.conv2d.contributions(x, w, b, pad)
        if passed == "sums":
            return [k.conv2d.sums(x, w, b, pad)]
        if passed == "redistribute":
            return [k.conv2d.redistribute(x, w, dz, also, pad)]
        dw, db = k.zeros(w.shape), k.zeros(b.shape)
        dx = k.conv2d.backward(x, w, dz, None, dz, pad, 1.0, dw, db, True)
        return [dx] if passed == "backward_input" else [dw, db]

    return case


def on_drawn(*shapes):
    """A case of a function of the kernels and of arrays of these shapes."""

    def decorate(function):
        def case(k, rng):
            return function(k, *(k.asarray(rng.normal(size=shape)) for shape in shapes))

        return case

    return decorate


def drawn(*shapes):
    return lambda function: on_drawn(*shapes)(lambda k, *arrays: _as_list(function(k, *arrays)))


def _as_list(found):
    return list(found) if isinstance(found, (tuple, list)) else [found]


def index_of(k, shape, most):
    return k.asindex(np.random.default_rng(1).integers(0, most, shape)).astype(np.uint8)


def epilogue_backward(k, dy, y):
    index = index_of(k, y.shape, 4)
    return k.conv2d.epilogue_backward(dy, y, index, 0.1, (2, 7, 7, y.shape[3]))


def taken(k, stamps):
    """Stamps of a data set on the device; the reference has none there."""
    rows, there = np.array([8, 0, 3, 3]), k.resident(stamps.shape)
    if there is None:
        return stamps[rows]
    there.put(0, k.to_host(stamps)[:4])
    there.put(4, k.to_host(stamps)[4:])
    return there.take(rows)


def updated(k, params, grads):
    k.sgd.update(params, grads, 0.5)
    return params


def at_logits(k, z, target):
    """R at the logits; the reference asks the host for the class."""
    return (targets.relevance if k.targets is None else targets.relevance_on_device)(k, z, target)


OF_THREE = [
    *(1, "predicted", "probability", "difference"),
    *(
        targets.AtThreshold(name, Classes(("a", "b", "c"), candidate=1), 0.6)
        for name in ("one", "difference")
    ),
]
MAPS, JOINED, QUARTER = (8, 5, 5, 3), (2, 5, 5, 12), (2, 5, 5, 3)
CASES = {
    **{
        f"conv2d_{name}_{wide}": convolution(name, 9, *channels, 3, 1)
        for name in ("forward", "contributions")
        for wide, channels in ((64, (8, 70)), (32, (3, 20)), (8, (5, 6)))
    },
    **{
        f"conv2d_{name}_{wide}": convolution(name, 9, *channels, 3, 1)
        for name in ("backward_input", "redistribute")
        for wide, channels in ((64, (66, 8)), (32, (20, 5)), (8, (4, 12)))
    },
    "conv2d_forward_tf32_64": convolution("forward", 9, 8, 70, 3, 1, pool=2),
    "conv2d_forward_tf32_32": convolution("forward", 9, 3, 20, 4, 0),
    "conv2d_backward_input_tf32_64": convolution("backward_input", 9, 66, 8, 3, 1),
    "conv2d_backward_input_tf32_32": convolution("backward_input", 9, 5, 12, 3, 1),
    "conv2d_gradients_tf32_64": convolution("gradients", 7, 8, 36, 3, 1),
    "conv2d_gradients_tf32_32": convolution("gradients", 8, 5, 7, 4, 0),
    "conv2d_gradients_64": convolution("gradients", 7, 8, 36, 3, 1),
    "conv2d_gradients_32": convolution("gradients", 8, 5, 7, 4, 0),
    "conv2d_gradients_sum": convolution("gradients", 15, 4, 32, 3, 1),
    "conv2d_sums": convolution("sums", 7, 3, 5, 3, 1),
    "conv2d_epilogue": drawn((2, 7, 7, 3), (2, 7, 7, 3))(
        lambda k, a, b: [k.conv2d.epilogue(a, b, 0.1, 1)[0], *k.conv2d.epilogue(a, b, 0.1, 2)]
    ),
    "conv2d_epilogue_backward": drawn((2, 3, 3, 3), (2, 3, 3, 3), (2, 3, 3, 8), (2, 3, 3, 8))(
        lambda k, dy, y, *wide: [epilogue_backward(k, dy, y), epilogue_backward(k, *wide)]
    ),
    "dense_forward": drawn((11, 75), (75, 40), (40,))(lambda k, x, w, b: k.dense.forward(x, w, b, 0.1)),
    "dense_contributions": drawn((11, 75), (75, 40), (40,))(lambda k, *a: k.dense.contributions(*a)),
    "pool2d_max_forward": drawn((2, 7, 7, 3))(lambda k, x: k.pool2d.max_forward(x, 3)),
    "pool2d_max_backward": drawn((2, 2, 2, 3))(
        lambda k, dy: k.pool2d.max_backward(dy, index_of(k, dy.shape, 9), 3, (2, 7, 7, 3))
    ),
    "pool2d_average_forward": drawn((2, 7, 7, 3))(lambda k, x: k.pool2d.average_forward(x, 3)),
    "pool2d_average_backward": drawn((2, 2, 2, 3))(
        lambda k, dy: k.pool2d.average_backward(dy, 3, (2, 7, 7, 3))
    ),
    "pool2d_average_relevance": drawn((2, 7, 7, 3), (2, 2, 2, 3))(
        lambda k, x, r: k.pool2d.average_relevance(abs(x), r, 3)
    ),
    "pool2d_zero_pad": drawn((2, 5, 5, 3))(lambda k, x: k.zero_pad(x, 2)),
    "cyclic_turn": drawn(MAPS)(
        lambda k, x: [k.cyclic.slice(x), k.cyclic.align(x), k.cyclic.align_backward(x)]
    ),
    "cyclic_slice_backward": drawn(MAPS)(lambda k, dy: k.cyclic.slice_backward(dy)),
    "cyclic_stack": drawn(MAPS)(lambda k, x: k.cyclic.stack(x)),
    "cyclic_stack_backward": drawn(JOINED)(lambda k, dy: k.cyclic.stack_backward(dy)),
    "cyclic_roll": drawn(MAPS)(lambda k, x: k.cyclic.roll(x)),
    "cyclic_roll_backward": drawn((8, 5, 5, 12))(lambda k, dy: k.cyclic.roll_backward(dy)),
    "cyclic_mean": drawn(MAPS)(lambda k, x: k.cyclic.mean(x)),
    "cyclic_mean_backward": drawn(QUARTER)(lambda k, dy: k.cyclic.mean_backward(dy)),
    "cyclic_mean_relevance": drawn(MAPS, QUARTER)(lambda k, x, r: k.cyclic.mean_relevance(abs(x), r)),
    "cyclic_max": drawn(MAPS)(lambda k, x: k.cyclic.max(x)),
    "cyclic_max_backward": drawn(QUARTER)(lambda k, dy: k.cyclic.max_backward(dy, index_of(k, QUARTER, 4))),
    "cyclic_rms": drawn(MAPS)(lambda k, x: k.cyclic.rms(x)),
    "cyclic_rms_backward": drawn(QUARTER, MAPS)(
        lambda k, dy, x: k.cyclic.rms_backward(dy, x, k.cyclic.rms(x))
    ),
    "activation_masked": drawn((3, 700), (3, 700))(lambda k, dy, y: k.activation.backward(dy, y, 0.1)),
    "dropout_forward": drawn((3, 700))(lambda k, x: k.dropout.forward(x, 0.3, 5, 6, 7)),
    "softmax_forward": drawn((70, 3))(lambda k, z: k.softmax.forward(z)),
    "softmax_cross_entropy": drawn((70, 3))(
        lambda k, z: k.softmax.cross_entropy(z, k.asindex(np.arange(70) % 3), k.asarray([0.5, 1.0, 3.0]))
    ),
    "targets_relevance": drawn((70, 3), (70, 2))(
        lambda k, z, two: (
            [at_logits(k, z, target) for target in OF_THREE]
            + [at_logits(k, two, what) for what in targets.TARGETS]
        )
    ),
    "sgd_update": drawn((700,), (700,))(updated),
    "shares_joint": drawn((3, 70), (3, 70), (3, 70))(
        lambda k, p, n, r: k.shares.joint(abs(p), -abs(n), r, 0.25, 0.01)
    ),
    "shares_apart": drawn((3, 70), (3, 70), (3, 70))(
        lambda k, p, n, r: k.shares.apart(abs(p), -abs(n) * (r > 0), r, 2, 1, 0, True)
    ),
    "stamps_take": drawn((9, 5, 5, 3))(taken),
    "fill": lambda k, rng: [k.zeros((3, 5))],
}
# The kernels of chain.py, which test_cuda_chain.py runs.
CHAIN = {
    *("chain_fp16", "chain_fp16_one", "chain_tf32", "chain_tf32_small"),
    *("chain_powers", "chain_pack_fp16", "chain_pack_tf32"),
    *(f"head_{what}_{kind}" for what in ("mean", "concat", "pack") for kind in ("fp16", "tf32")),
}
# The kernels of step.py, which test_cuda_step.py runs.
STEP = {
    *("step_head_first", "step_head_middle_mean", "step_head_middle_concat", "step_head_gradients"),
    *("step_gradients", "step_gradients_one_buffer", "step_update"),
    *("chain_pack_backward", "step_forward", "step_forward_small", "step_backward", "step_backward_small"),
}
# Sums of products of numbers that were rounded to 10 bits.
PRECISION = {"fp32": TOLERANCE[np.dtype(np.float32)], "tf32": 2e-3}


def precision_of(name):
    """The precision of a kernel's products."""
    return "tf32" if "_tf32" in name else "fp32"


def results(name, k, seed=3):
    """What a case gives, on the host."""
    return [np.array(k.to_host(found)) for found in _as_list(CASES[name](k, np.random.default_rng(seed)))]


def test_every_kernel_has_a_case():
    assert CASES.keys() | CHAIN | STEP == KERNELS.keys() and not CASES.keys() & (CHAIN | STEP)


@needs_emulator
@pytest.mark.parametrize("name", CASES)
def test_a_kernel_against_the_reference_in_every_order_of_threads(name):
    precision = precision_of(name)
    exact = results(name, get_kernels("reference"))
    device = EmulatedDevice(precision)
    same = []
    for order in ORDERS:
        device.order = order
        same.append(results(name, cuda_kernels("cuda-emulated", device)))
    assert name in device.launched
    for found, expected in zip(same[0], exact, strict=True):
        scale = np.abs(expected).max() or 1
        np.testing.assert_allclose(found / scale, expected / scale, rtol=0, atol=PRECISION[precision])
    for other in same[1:]:
        for one, two in zip(same[0], other, strict=True):
            np.testing.assert_array_equal(one, two)


@needs_emulator
@pytest.mark.parametrize("precision", PRECISION)
@pytest.mark.parametrize("side, o", [(6, 40), (7, 9)])
def test_pooling_fused_is_pooling_afterwards(rng, side, o, precision):
    k = cuda_kernels("cuda-emulated", EmulatedDevice(precision))
    x, w = k.asarray(rng.normal(size=(3, side, side, 5))), k.asarray(rng.normal(size=(3, 3, 5, o)))
    b = k.asarray(rng.normal(size=o))
    whole, _ = k.conv2d.forward(x, w, b, 1, 0.0, 1)
    for found, expected in zip(
        k.conv2d.forward(x, w, b, 1, 0.0, 2), k.pool2d.max_forward(whole, 2), strict=True
    ):
        np.testing.assert_array_equal(found, expected)


@needs_emulator
@pytest.mark.parametrize(
    "name", [f"conv2d_{what}_64" for what in ("forward", "contributions", "redistribute", "gradients")]
    + [f"conv2d_{what}_tf32_64" for what in ("forward", "backward_input", "gradients")],
)  # fmt: skip
def test_no_bank_of_shared_memory_is_met_twice(name):
    """By the loads and stores of several words, and all of the products on tensor cores."""
    on = EmulatedDevice(precision_of(name))
    counts = on.counted(KERNELS[name].family, lambda: results(name, cuda_kernels("cuda-emulated", on)))
    assert counts and all(count.found == count.least for count in counts.values())


@needs_emulator
def test_arguments_that_a_kernel_does_not_take_are_refused():
    on = EmulatedDevice()
    x, y = on.zeros((4,)), on.zeros((4,))
    with pytest.raises(TypeError, match="takes 3 arguments"):
        on.launch("fill", 1, 32, x, 0.0)
    with pytest.raises(TypeError, match="array of float32 on the device, got float64"):
        on.launch("fill", 1, 32, np.zeros(4), 0.0, 4)
    with pytest.raises(TypeError, match="count is a int32"):
        on.launch("fill", 1, 32, x, 0.0, 4.0)
    with pytest.raises(MemoryError, match="count is 1099511627776"):
        on.launch("fill", 1, 32, x, 0.0, 2**40)
    with pytest.raises(ValueError, match="not contiguous"):
        on.launch("fill", 1, 32, on.zeros((4, 4))[:, 1], 0.0, 4)
    with pytest.raises(ValueError, match="made for 256"):
        on.launch("conv2d_forward_64", 1, 128, *[None] * 16)
    with pytest.raises(EmulationError, match="overlaps"):
        on.launch("activation_masked", 1, 32, x, y, 0.0, x, 4)


def made(family, architecture):
    """What NVRTC makes of a family, kept in files, for the compiler is slow."""
    text = launch.source(family)
    key = hashlib.sha256("\0".join([text, architecture, *nvrtc.OPTIONS]).encode()).hexdigest()[:24]
    cache = cache_folder("nvrtc")
    log, cubin = (cache / f"{family}-{architecture}-{key}.{kind}" for kind in ("log", "cubin"))
    if not log.exists():
        found = nvrtc.compiled(family, text, architecture)
        for path, content in ((cubin, found.cubin), (log, found.log.encode())):
            unfinished = cache / f".{path.name}.{os.getpid()}"
            unfinished.write_bytes(content)
            unfinished.replace(path)
    return nvrtc.Made(log.read_text(), cubin.read_bytes())


def resources(family, architecture):
    return nvrtc.resources(family, made(family, architecture).log)


@needs_nvrtc
@pytest.mark.parametrize("architecture", nvrtc.ARCHITECTURES)
@pytest.mark.parametrize("family", launch.FAMILIES)
def test_kernels_compile_without_spills(family, architecture):
    if family not in nvrtc.families(architecture):
        pytest.skip("tensor cores of that precision begin with sm_80")
    rows = resources(family, architecture)
    assert {row.kernel for row in rows} == launch.declarations(family).keys()
    for row in rows:
        assert row.spilled == 0 and row.stack == 0, row
        assert row.shared <= 48 * 1024, row
        assert row.registers * row.threads <= 65536, row  # else a block does not fit


@needs_nvrtc
def test_a_source_that_does_not_compile_gives_the_compilers_log():
    with pytest.raises(nvrtc.CompileError, match="undefined"):
        nvrtc.compiled("sgd", launch.source("sgd").replace("x[i] = value", "x[i] = valve"), "sm_80")
