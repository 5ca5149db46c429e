"""A network of rotinv as an ONNX model for BOOM, with the names and the layout that BOOM gives its models.

    python boom_model.py NETWORK.onnx BOOM.onnx

NETWORK.onnx is what `rotinv export --format onnx` writes, of a network that cuts its stamps out of larger
ones (trained with --crop) and reads science, template and difference, in any order. BOOM hands its models the
whole cut-outs as `input`, (N, 63, 63, 3): science, template, difference, each divided by its norm, which
rotinv's own scaling undoes. It reads the scores as `rb_score`, (N,).
"""

import sys

import onnx
from onnx import TensorProto, helper

BOOM = ("science", "template", "difference")
SIDE = 63


def convert(model):
    """The graph with BOOM's names: its channels come last there, and in an order of their own."""
    about = {entry.key: entry.value for entry in model.metadata_props}
    channels = about["channels"].split(",")
    if sorted(channels) != sorted(BOOM) or not about["crop"]:
        raise SystemExit(f"the network reads {channels}, cut {about['crop'] or 'not at all'}; see this file")
    places = helper.make_tensor("boom_places", TensorProto.INT64, [3], [BOOM.index(one) for one in channels])
    nodes = [
        helper.make_node("Transpose", ["input"], ["boom_first"], perm=[0, 3, 1, 2]),
        helper.make_node("Gather", ["boom_first", "boom_places"], ["stamps"], axis=1),
        *model.graph.node,
        helper.make_node("Identity", ["probability"], ["rb_score"]),
    ]
    graph = helper.make_graph(
        nodes,
        "rotinv for BOOM",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", SIDE, SIDE, 3])],
        [helper.make_tensor_value_info("rb_score", TensorProto.FLOAT, ["N"])],
        [*model.graph.initializer, places],
    )
    made = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    helper.set_model_props(made, about)
    onnx.checker.check_model(made, full_check=True)
    return made


if __name__ == "__main__":
    source, target = sys.argv[1:]
    onnx.save(convert(onnx.load(source)), target)
