"""ComfyUI keeps no settings but the graph that made the picture: what was asked is read off the way to the sampler.

Beginning at the sampler, `model` leads over the LoRA loaders to the checkpoint, `positive` and `negative` lead to the
prompts, `latent_image` to the size. Nodes on the way that change the picture and are not known here are told.
"""

from __future__ import annotations

from collections.abc import Mapping

from pipelines.metadata import samplers
from pipelines.metadata.found import Draft, Found, as_number, as_text, shown
from pipelines.metadata.graph import Graph, Node, api_graph, workflow_graph
from pipelines.metadata.limits import parse_object

_SAMPLERS = ("KSampler", "KSamplerAdvanced")
_MOST_SAMPLERS = 16  # that are looked at
_LORAS = ("LoraLoader", "LoraLoaderModelOnly")
_CHECKPOINTS = {"CheckpointLoaderSimple": "ckpt_name", "CheckpointLoader": "ckpt_name", "UNETLoader": "unet_name"}
_EMPTY = ("EmptyLatentImage", "EmptySD3LatentImage")
_IDLE = ("Reroute", "CLIPSetLastLayer")  # the latter is told by its value


def read(texts: Mapping[str, str]) -> Found | None:
    """Read the graph that was run, or for want of it the one in the editor."""
    if "prompt" in texts:
        return _read(api_graph(parse_object(texts["prompt"], "ComfyUI prompt")), [])
    if "workflow" in texts:
        return _read(*workflow_graph(parse_object(texts["workflow"], "ComfyUI workflow")))
    return None


def _read(graph: Graph, off: list[str]) -> Found:
    draft = Draft("comfyui")
    for kind in off:
        draft.note(f"node {shown(kind)} is switched off")
    sampler = _first_sampler(draft, graph)
    if sampler is None:
        draft.note("no KSampler in the graph: nothing can be read off it")
        return draft.finish()
    values = {name: graph.value(value) for name, value in sampler.inputs.items()}
    draft.count_and_seed(values.get("steps"), values.get("seed", values.get("noise_seed")))
    draft.guidance(values.get("cfg"))
    draft.solver(samplers.COMFYUI, values.get("sampler_name"), values.get("scheduler"))
    for name in ("seed", "noise_seed", "steps", "cfg", "sampler_name", "scheduler"):
        if name in values and values[name] is None:
            draft.note(f"{name}: comes from a node that cannot be read")
    if as_number(values.get("denoise")) not in (None, 1, 1.0):
        draft.note(f"denoise: {shown(values['denoise'])}")
    _model(draft, graph, sampler)
    draft.prompt = _prompt(draft, graph, sampler, "positive")
    draft.negative_prompt = _prompt(draft, graph, sampler, "negative")
    _size(draft, graph, sampler)
    return draft.finish()


def _first_sampler(draft: Draft, graph: Graph) -> Node | None:
    """Return the sampler that begins with noise: a second one refines what the first one made."""
    found = [node for node in graph.nodes.values() if node.kind in _SAMPLERS]
    if len(found) > 1:
        draft.note(f"{len(found)} samplers: only what the first one made is taken")
    ranked = [(_samplers_before(graph, node), place) for place, node in enumerate(found[:_MOST_SAMPLERS])]
    return found[min(ranked)[1]] if found else None


def _samplers_before(graph: Graph, node: Node) -> int:
    return sum(one.kind in _SAMPLERS for one in graph.before(node.inputs.get("latent_image")))


def _model(draft: Draft, graph: Graph, sampler: Node) -> None:
    """Read checkpoint and LoRAs. The way leads against the order of loading, so LoRAs are turned round at its end."""
    loaders: list[Node] = []
    for node in graph.upstream(sampler.inputs.get("model"), "model", "any", ""):
        if node.kind in _LORAS:
            loaders.append(node)
        elif node.kind in _CHECKPOINTS:
            name = graph.value(node.inputs.get(_CHECKPOINTS[node.kind]))
            draft.model = None if name is None else as_text(name, "name of the checkpoint")
        elif node.kind not in _IDLE and not node.kind.startswith("switched off"):
            draft.note(f"node {shown(node.kind)} changes the model")
    for node in reversed(loaders):
        _lora(draft, graph, node)
    if draft.model is None:
        draft.note("no checkpoint loader that can be read")


def _lora(draft: Draft, graph: Graph, node: Node) -> None:
    name = graph.value(node.inputs.get("lora_name"))
    if name is None:
        draft.note(f"a {node.kind} whose LoRA cannot be read")
        return
    strength = graph.value(node.inputs.get("strength_model"))
    only = node.kind == "LoraLoaderModelOnly"
    draft.lora(name, (strength, 0 if only else graph.value(node.inputs.get("strength_clip"))))


def _prompt(draft: Draft, graph: Graph, sampler: Node, name: str) -> str:
    """Return the nearest text; of several that are joined the first, and that there are more."""
    texts: list[str] = []
    for node in graph.before(sampler.inputs.get(name)):
        if node.kind == "CLIPTextEncode":
            text = graph.value(node.inputs.get("text"))
            texts.append(as_text("" if text is None else text, "prompt"))
            if text is None:
                draft.note(f"{name} prompt: comes from a node that cannot be read")
        elif node.kind == "CLIPSetLastLayer":
            draft.note(f"stop_at_clip_layer: {shown(graph.value(node.inputs.get('stop_at_clip_layer')))}")
        elif node.kind.startswith(("Conditioning", "ControlNet", "IPAdapter")):
            draft.note(f"node {shown(node.kind)} changes the {name} prompt")
    if len(texts) > 1:
        draft.note(f"{len(texts)} {name} prompts: only the first is taken")
    if not texts:
        draft.note(f"no {name} prompt that can be read")
    return texts[0] if texts else ""


def _size(draft: Draft, graph: Graph, sampler: Node) -> None:
    for node in graph.before(sampler.inputs.get("latent_image")):
        if node.kind in _EMPTY:
            draft.sizes(graph.value(node.inputs.get("width")), graph.value(node.inputs.get("height")))
            if as_number(graph.value(node.inputs.get("batch_size"))) not in (None, 1):
                draft.note("a batch of several pictures: this may be any of them, and its seed belongs to all")
            return
    draft.note("size: not an empty latent image")
