"""A ComfyUI graph as the server runs it: nodes by id, whose inputs are values or links to other nodes.

Links are followed a limited number of steps and never to a node twice, since a stranger drew the graph.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pipelines.errors import BadMetadata
from pipelines.metadata.found import as_list, as_object

MOST_NODES = 5000
_HOPS = 16  # between a value and the node that uses it
_VALUES = ("value", "text", "string", "seed", "noise_seed", "int", "float", "number")


@dataclass(frozen=True)
class Node:
    """One node: what it does, and with what."""

    id: str
    kind: str
    inputs: Mapping[str, object]


class Graph:
    """The nodes of a graph, and the ways between them."""

    def __init__(self, nodes: Mapping[str, Node]) -> None:
        self.nodes = nodes

    def link(self, value: object) -> Node | None:
        """Return the node that an input is linked to; None for a plain value or a link to nowhere."""
        if isinstance(value, list) and len(value) == 2 and isinstance(value[0], str | int):
            return self.nodes.get(str(value[0]))
        return None

    def value(self, value: object) -> object:
        """Return a plain value, through nodes that do nothing but hold one; None when it cannot be known."""
        for _ in range(_HOPS):
            if not isinstance(value, list):
                return value
            node = self.link(value)
            held = [] if node is None else [node.inputs[key] for key in _VALUES if key in node.inputs]
            if len(held) != 1:
                return None
            value = held[0]
        return None

    def upstream(self, start: object, *inputs: str) -> Iterator[Node]:
        """Yield the node an input is linked to, and on along the first of the named inputs that each has."""
        seen: set[str] = set()
        node = self.link(start)
        while node is not None and node.id not in seen:
            seen.add(node.id)
            yield node
            links = (self.link(node.inputs[name]) for name in inputs if name in node.inputs)
            node = next((one for one in links if one is not None), None)

    def before(self, start: object) -> Iterator[Node]:
        """Yield every node that an input depends on, nearest first."""
        first = self.link(start)
        waiting = [] if first is None else [first]
        seen = {node.id for node in waiting}
        for node in waiting:
            yield node
            for value in node.inputs.values():
                further = self.link(value)
                if further is not None and further.id not in seen:
                    seen.add(further.id)
                    waiting.append(further)


def api_graph(data: Mapping[str, object]) -> Graph:
    """Read what ComfyUI keeps as `prompt`."""
    _check_count(len(data))
    nodes: dict[str, Node] = {}
    for key, value in data.items():
        stated = as_object(value, f"node {key[:20]!r}")
        kind, inputs = stated.get("class_type"), stated.get("inputs", {})
        if not isinstance(kind, str):
            raise BadMetadata(f"the picture's node {key[:20]!r} does not say what it does (class_type)")
        nodes[key] = Node(key, kind, as_object(inputs, f"node {key[:20]!r} inputs"))
    return Graph(nodes)


#: For the nodes that are read: the names of their widgets, in order. None: not an input, or one that is not used.
_SAMPLER = ("seed", None, "steps", "cfg", "sampler_name", "scheduler", "denoise")
_ADVANCED = (None, "noise_seed", None, "steps", "cfg", "sampler_name", "scheduler", "start_at_step", "end_at_step")
_WIDGETS: Mapping[str, tuple[str | None, ...]] = {
    "KSampler": _SAMPLER,
    "KSamplerAdvanced": _ADVANCED,
    "CLIPTextEncode": ("text",),
    "LoraLoader": ("lora_name", "strength_model", "strength_clip"),
    "LoraLoaderModelOnly": ("lora_name", "strength_model"),
    "CheckpointLoaderSimple": ("ckpt_name",),
    "CheckpointLoader": (None, "ckpt_name"),
    "UNETLoader": ("unet_name",),
    "EmptyLatentImage": ("width", "height", "batch_size"),
    "EmptySD3LatentImage": ("width", "height", "batch_size"),
    "PrimitiveNode": ("value",),
    "CLIPSetLastLayer": ("stop_at_clip_layer",),
}
_OFF = (2, 4)  # muted, bypassed


def workflow_graph(data: Mapping[str, object]) -> tuple[Graph, list[str]]:
    """Read what ComfyUI's editor keeps as `workflow`; return the graph and the kinds of nodes that are switched off.

    A node that is switched off keeps its links and loses its values, so that what lies behind it is still found.
    """
    listed = [as_object(one, "node") for one in as_list(data.get("nodes"), "workflow nodes")]
    links = as_list(data.get("links") or [], "workflow links")
    _check_count(len(listed))
    _check_count(len(links) // 4)
    sources = dict(map(_source, links))
    nodes: dict[str, Node] = {}
    off: list[str] = []
    for one in listed:
        kind, key = str(one.get("type", "")), str(one.get("id", ""))
        inputs = _linked(one, sources)
        if one.get("mode") in _OFF:
            off.append(kind)
            nodes[key] = Node(key, f"switched off: {kind}", inputs)
            continue
        values = one.get("widgets_values", [])
        values = list(values.values()) if isinstance(values, dict) else as_list(values, "widgets of a node")
        named = zip(_WIDGETS.get(kind, ()), values, strict=False)
        nodes[key] = Node(key, kind, {**{name: value for name, value in named if name}, **inputs})
    return Graph(nodes), off


def _source(link: object) -> tuple[str, list[object]]:
    """Return a link's id and where it comes from; newer editors write an object, older ones a list."""
    if isinstance(link, dict):
        return str(link.get("id")), [str(link.get("origin_id")), link.get("origin_slot")]
    parts = as_list(link, "link")
    if len(parts) < 5:
        raise BadMetadata(f"a link in the picture's workflow has {len(parts)} parts instead of 6")
    return str(parts[0]), [str(parts[1]), parts[2]]


def _linked(node: Mapping[str, object], sources: Mapping[str, object]) -> dict[str, object]:
    linked: dict[str, object] = {}
    for one in as_list(node.get("inputs") or [], "inputs of a node"):
        stated = as_object(one, "input of a node")
        source = sources.get(str(stated.get("link")))
        if source is not None:
            linked[str(stated.get("name"))] = source
    return linked


def _check_count(count: int) -> None:
    if count > MOST_NODES:
        raise BadMetadata(f"the picture's graph has {count} nodes; at most {MOST_NODES} are read")
