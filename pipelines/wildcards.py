"""`{a|b}` and `__NAME__` in a prompt as typed: one choice for each picture, drawn from the picture's seed.

The words are dynamicprompts'; the record of a picture holds what was chosen, so that it can be made again.
"""

from __future__ import annotations

import re
from pathlib import Path

from composer.errors import BadRequest
from lora_zoo.errors import nearest

_NAME = re.compile(r"__([\w/*-]+?)__")


def expand(prompt: str, seed: int, folder: Path | None) -> str:
    """Return the prompt with its choices made. `folder` holds NAME.txt files, one value per line, for `__NAME__`."""
    names = _NAME.findall(prompt)
    if "{" not in prompt and not names:
        return prompt
    if names and folder is None:
        raise BadRequest(f"the prompt has the wildcard __{names[0]}__; give the folder of its values with --wildcards")
    if folder is not None and not folder.is_dir():
        raise BadRequest(f"--wildcards {folder}: there is no such folder")
    if "#" in prompt:
        raise BadRequest("'#' begins a comment where choices are made; write the prompt without it, or --syntax plain")
    expanded = _expanded(prompt, seed, folder)
    left = _NAME.findall(expanded)
    if left:
        files = (path.relative_to(folder) for path in folder.rglob("*.txt")) if folder else ()
        known = sorted(path.with_suffix("").as_posix() for path in files)
        raise BadRequest(f"there are no values for the wildcard __{left[0]}__{nearest(left[0], known)}")
    return expanded


def _expanded(prompt: str, seed: int, folder: Path | None) -> str:
    from dynamicprompts.generators import RandomPromptGenerator
    from dynamicprompts.wildcards import WildcardManager
    from pyparsing import ParseException

    try:
        made = RandomPromptGenerator(WildcardManager(folder), seed=seed).generate(prompt, 1)
    except ParseException as error:
        raise BadRequest(
            f"the choices in the prompt cannot be read, at character {error.loc + 1}: {prompt!r}; "
            "write {a|b}, or --syntax plain for braces that are text"
        ) from error
    return str(made[0])
