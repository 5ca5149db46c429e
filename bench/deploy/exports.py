"""Scores of one network by ONNX Runtime, OpenVINO and PyTorch beside rotinv's: how far apart, how fast.

    python bench/deploy/exports.py RUN

exports RUN (a folder of `rotinv train`) as ONNX and as a PyTorch module, scores 10,000 made stamps by each on
two threads, and prints the table of docs/deploy/export.md. Needs the extras `bench` and `onnx`.
"""

import importlib.util
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime
import openvino
import torch

import rotinv
from rotinv.deploy import exporting
from rotinv.runs.model import open_models

COUNT, BATCH, THREADS = 10_000, 500, 2


def made_stamps(side, channels):
    """Raw pixels (n, side, side, channels): noise, half with a star in the middle, some of them faint."""
    rng = np.random.default_rng(0)
    stamps = rng.normal(100, 5, (COUNT, side, side, channels)).astype(np.float32)
    y, x = np.mgrid[:side, :side] - side // 2
    star = np.exp(-(x**2 + y**2) / 5).astype(np.float32)[..., None]
    flux = rng.uniform(0, 60, COUNT) * (rng.random(COUNT) < 0.5)
    return stamps + np.float32(flux)[:, None, None, None] * star


def by_onnx_runtime(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda stamps: session.run(["probabilities"], {"stamps": stamps})[0]


def by_openvino(path):
    core = openvino.Core()
    settings = {"INFERENCE_NUM_THREADS": THREADS, "INFERENCE_PRECISION_HINT": "f32"}
    network = core.compile_model(core.read_model(path), "CPU", settings)
    return lambda stamps: network({"stamps": stamps})["probabilities"]


def by_pytorch(path):
    torch.set_num_threads(THREADS)
    spec = importlib.util.spec_from_file_location("exported", path.with_suffix(".py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    network = module.load()

    def score(stamps):
        with torch.no_grad():
            return network(torch.from_numpy(stamps)).numpy()

    return score


def timed(score, stamps):
    """The probabilities of all stamps, in batches, and how many stamps a second."""
    score(stamps[:BATCH])
    started = time.perf_counter()
    found = [score(stamps[i : i + BATCH]) for i in range(0, COUNT, BATCH)]
    return np.concatenate(found), COUNT / (time.perf_counter() - started)


def main(run):
    models = open_models([run])
    config = models[0].config
    stamps = made_stamps(config.size, len(config.channels))
    first = np.ascontiguousarray(np.moveaxis(stamps, 3, 1))
    with tempfile.TemporaryDirectory() as folder:
        graph, state = Path(folder) / "net.onnx", Path(folder) / "net.pt"
        exporting.write("onnx", graph, [run], models, "none")
        exporting.write("torch", state, [run], models, "none")
        others = {
            f"ONNX Runtime {onnxruntime.__version__}": by_onnx_runtime(graph),
            f"OpenVINO {openvino.__version__.partition('-')[0]}": by_openvino(graph),
            f"PyTorch {torch.__version__}": by_pytorch(state),
        }
        ours, rate = timed(rotinv.load(run, threads=THREADS).predict_proba, stamps)
        print("| engine | stamps/s | largest difference of p | classes that differ |\n|---|---|---|---|")
        print(f"| rotinv {rotinv.__version__} | {rate:,.0f} | | |")
        for name, score in others.items():
            p, rate = timed(score, first)
            apart, differ = np.abs(p - ours).max(), int(np.sum(p.argmax(axis=1) != ours.argmax(axis=1)))
            print(f"| {name} | {rate:,.0f} | {apart:.1e} | {differ} |", flush=True)
    candidates = np.mean(ours[:, config.classes.candidate] >= 0.5)
    print(f"p from {ours.min():.1g} to {ours.max():.3g}; {candidates:.0%} candidates")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
