"""What Dynamo rewrites before any backend sees it, and eager does not."""

from __future__ import annotations

import torch
from torch.fx import GraphModule, Node


def _one_call(*nodes: Node) -> bool:
    """Whether one call of `addcdiv` made all of these nodes.

    They come from one line then, in which newer releases underline the call; older ones do not, and
    the line has to name it.
    """
    traces = {node.meta.get("stack_trace") for node in nodes}
    trace = traces.pop()
    return not traces and trace is not None and ("^" in trace or "addcdiv(" in trace)


def restore_addcdiv(gm: GraphModule) -> None:
    """Makes `addcdiv` again of Dynamo's `div`, `mul` and `add` for a call with `value=`.

    The three round narrow floats after each step, `addcdiv` rounds once.
    """
    graph = gm.graph
    for add in graph.find_nodes(op="call_function", target=torch.add):
        match add.args:
            case (x, Node(target=torch.mul, args=(Node(target=torch.div) as div, int() | float()))):
                mul = add.args[1]
            case _:
                continue
        value = mul.args[1]
        plain = not (add.kwargs or mul.kwargs or div.kwargs)
        if plain and len(mul.users) == len(div.users) == 1 and _one_call(div, mul, add):
            with graph.inserting_before(add):
                whole = graph.call_function(torch.addcdiv, (x, *div.args), {"value": value})
            whole.meta = add.meta
            add.replace_all_uses_with(whole)
            for node in (add, mul, div):
                graph.erase_node(node)
            gm.recompile()
