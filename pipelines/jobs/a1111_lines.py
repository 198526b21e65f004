"""Lines as A1111's script "Prompts from file or textbox" takes them: `--prompt "a cat" --seed 5`, or just a prompt.

A prompt without quotes is the words up to the next option, as there. What that script knows and Medley cannot do is an
error: a picture without it would not be the one asked for.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from composer.errors import UnknownChoice
from pipelines.jobs.errors import BadJobs
from pipelines.metadata.samplers import A1111

#: Their option -> our key.
_KEYS: Mapping[str, str] = {
    "prompt": "prompt",
    "negative_prompt": "negative_prompt",
    "seed": "seed",
    "steps": "num_inference_steps",
    "cfg_scale": "guidance_scale",
    "width": "width",
    "height": "height",
    "sd_model": "model",
    "n_iter": "count",
}
_SAMPLER = "sampler_name"
_WORDS = ("prompt", "negative_prompt")  # the options whose values need no quotes
_REFUSED = (
    "outpath_samples",
    "outpath_grids",
    "prompt_for_display",
    "styles",
    "subseed",
    "subseed_strength",
    "seed_resize_from_h",
    "seed_resize_from_w",
    "sampler_index",
    "batch_size",
    "restore_faces",
    "tiling",
    "do_not_save_samples",
    "do_not_save_grid",
    "clip_skip",
)


def parse(line: str, where: str) -> dict[str, object]:
    """Return a job's data; a line without options is a prompt."""
    if not line.lstrip().startswith("--"):
        return {"prompt": line.strip()}
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise BadJobs(f"{where}: {error}; put a value that holds ' or \" between quotes of the other kind") from error
    data: dict[str, object] = {}
    position = 0
    while position < len(words):
        option = _option(words[position], where)
        end = _end(words, position + 1) if option in _WORDS else position + 2
        if not words[position + 1 : end]:
            raise BadJobs(f"{where}: --{option} has no value")
        value = " ".join(words[position + 1 : end])
        if option == _SAMPLER:
            data["scheduler"] = _scheduler(value)
        else:
            data[_KEYS[option]] = value
        position = end
    return data


def _end(words: Sequence[str], start: int) -> int:
    """Return where a value ends that begins at `start`: its first word belongs to it, whatever it looks like."""
    return next((place for place in range(start + 1, len(words)) if words[place].startswith("--")), len(words))


def _option(word: str, where: str) -> str:
    if not word.startswith("--"):
        raise BadJobs(f"{where}: {word!r} is no option; quote values that hold spaces")
    name = word[2:]
    if name in _REFUSED:
        raise BadJobs(f"{where}: --{name} has no counterpart here; take it out to render without it")
    if name not in (*_KEYS, _SAMPLER):
        raise UnknownChoice(f"option in {where}", name, (*_KEYS, _SAMPLER))
    return name


def _scheduler(theirs: str) -> str:
    """Return our scheduler of the same solver, Karras spacing included."""
    name = theirs.lower()
    karras = name.endswith(" karras")
    solver = A1111.solvers.get(name.removesuffix(" karras"))
    if solver is None or (karras and solver != "dpmpp_2m"):
        known = [*A1111.solvers, "dpm++ 2m karras"]
        raise UnknownChoice("sampler", theirs, known)
    return f"{solver}_karras" if karras else solver
