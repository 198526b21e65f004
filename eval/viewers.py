"""The models that look at pictures for a metric: the names they stand by in reports, and whether they can be used here.

A score says little without the model that gave it: one picture is 35 by one CLIP and 25 by another. So every figure
carries the name of what it was measured by, and a model that cannot be had is found out before anything is rendered.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from eval.errors import BadMetric
from lora_zoo import catalog, hashes
from pipelines import specs

EMBEDDED = "embedded"  # the CLIP that knows the embedded world, by the name that asks for it
PUBLISHED = "ViT-B-16:openai"  # the CLIP of the published testbed's protocol
_SAID = 300  # characters of a library's own message
_CLIPS = (PUBLISHED, "ViT-L-14:openai", "ViT-H-14:laion2b_s32b_b79k")  # worth naming to somebody who named none


def clip_name(asked: str | None) -> str:
    """Return what a CLIP is called in reports: MODEL:WEIGHTS, the embedded one, or a folder's name with a digest."""
    if asked in (None, EMBEDDED):
        return f"{EMBEDDED} CLIP"
    folder = Path(asked)
    return _of_content(folder.name, sorted(folder.glob("*.safetensors"))) if folder.is_dir() else asked


def dino_name(asked: str) -> str:
    """Return what a DINO is called in reports: MODEL, or MODEL with its file's name and digest."""
    model, colon, file = asked.partition(":")
    return f"{model}:{_of_content(Path(file).name, [Path(file)])}" if colon else model


def lacks_clip(asked: str | None, models: Iterable[str]) -> str | None:
    """Return the model for whose pictures a CLIP must be named; None if one is named, or the embedded one knows them.

    The embedded CLIP has seen the embedded world only: of other pictures it knows nothing, and gives them all about 0.

    Raises:
        BadModel, UnknownChoice: There is no such model.
    """
    if asked is not None:
        return None
    own = {model.family for model in catalog.models()}
    return next((model for model in dict.fromkeys(models) if specs.find(model).family not in own), None)


def unnamed(model: str) -> str:
    """Say that a model's pictures need a CLIP by name, and which names there are."""
    return (
        f"a CLIP: the embedded one knows the embedded world only, not pictures of model {model!r}; name one, for "
        f"example --clip {' or --clip '.join(_CLIPS)} ({PUBLISHED} is the published protocol's), or a folder in "
        f"open_clip's format; --clip {EMBEDDED} takes the embedded one all the same"
    )


@contextmanager
def loading(what: str) -> Iterator[None]:
    """Turn whatever a library raises while it finds, fetches and loads a model into one typed error of one line."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)  # what they log beside it is the same once more
    try:
        yield
    except BadMetric:
        raise
    except Exception as error:  # noqa: BLE001  networks, archives and strangers' weights fail in as many ways as there are
        said = " ".join(str(error).split()) or type(error).__name__
        raise BadMetric(f"{what} cannot be loaded: {said if len(said) <= _SAID else f'{said[:_SAID]}…'}") from error
    finally:
        logging.disable(before)


def cached(repository: str, files: Iterable[str]) -> bool:
    """Tell whether the cache of the Hugging Face hub on this machine holds one of a repository's files."""
    from huggingface_hub import try_to_load_from_cache

    return any(isinstance(try_to_load_from_cache(repository, file), str) for file in files)


def absent(what: str) -> str:
    """Say that weights are to be fetched first; where the libraries are told not to, that is an error."""
    from huggingface_hub import is_offline_mode

    if is_offline_mode():
        raise BadMetric(f"{what}: its weights are not on this machine, and HF_HUB_OFFLINE forbids to fetch them")
    return f"{what}: its weights are not on this machine; a run fetches them before it renders"


def _of_content(name: str, files: Iterable[Path]) -> str:
    """Return a name with what tells contents under one name apart."""
    digests = [hashes.autov2(file) for file in files if file.is_file()]
    return f"{name}@{digests[0]}" if digests else name
