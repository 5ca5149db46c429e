"""The layers of a graph as a table."""

from collections.abc import Iterator

from rotinv.graphs.graph import Graph
from rotinv.system.messages import counted


def lines(graph: Graph) -> Iterator[str]:
    """A row for each layer: its name, its parameters, what it gives, and the node that it was made of."""
    shape = "x".join(map(str, graph.in_shape))
    yield f"{graph.name}: reads {shape}, gives {counted(graph.classes, 'logit')}"
    yield f"{'layer':<26}{'parameters':>12}   {'output size':<16}node"
    total = 0
    for node in graph.nodes:
        if node.name:
            count = sum(array.size for array in node.params.values()) if node.learned else 0
            total += count
            yield f"{node.name:<26}{count:>12,}   {'x'.join(map(str, node.out_shape)):<16}{node.where}"
    yield f"{'total':<26}{total:>12,}"
    yield from graph.notes
