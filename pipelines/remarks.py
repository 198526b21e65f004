"""What a request's record should tell of it that is no mistake: found while it is resolved, told with its picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from composer import words
from composer.prompting import tags
from composer.request import RenderRequest
from lora_zoo.errors import shortened
from pipelines import schedulers
from pipelines.sources import PREDICTION, ZERO_SNR, AdapterInfo
from pipelines.specs import ModelSpec

_VELOCITY = ("v", "v_prediction", "v-prediction")
_MOST = 20  # texts that are told of one prompt


def remarks(request: RenderRequest, spec: ModelSpec, infos: Sequence[AdapterInfo]) -> tuple[str, ...]:
    """Return what there is to tell of a resolved request."""
    return tuple(
        dict.fromkeys([*request.remarks, *_of_prompts(request), *_of_words(request), *_of_noise(request, spec, infos)])
    )


def _of_prompts(request: RenderRequest) -> Iterator[str]:
    """Yield what looks like a LoRA's tag, and is text."""
    placed = (use.region.prompt or "" for use in request.adapters if use.region is not None)
    for text in (request.prompt, request.negative_prompt, *placed):
        yield from [tags.told_of(one, request.prompt_syntax) for one in tags.suspects(text, request.prompt_syntax)][
            :_MOST
        ]


def _of_words(request: RenderRequest) -> Iterator[str]:
    """Yield words that were to belong to a LoRA, and that nothing it reads holds."""
    for use in request.adapters:
        texts = (request.prompt, (use.region.prompt or "") if use.region is not None else "")
        own = use.words or ()
        missing = [word for word in own if not any(words.found(text, (word,)) for text in texts)][:_MOST]
        if missing:
            told = ", ".join(map(shortened, missing))
            yield f"LoRA '{use.name}': the prompt does not hold its words {told}, so that they decide nothing"


def _of_noise(request: RenderRequest, spec: ModelSpec, infos: Sequence[AdapterInfo]) -> Iterator[str]:
    """Yield where the noise schedule is not the one that the model's files, or a LoRA's, ask for."""
    config, prediction = spec.configs.scheduler, request.prediction_type or "epsilon"
    zero_snr = schedulers.zero_snr(config, prediction)
    if config.get("rescale_betas_zero_snr") and not zero_snr:
        yield (
            f"model '{spec.name}' asks for a noise schedule that begins with noise alone (ztsnr), of which a "
            "prediction of epsilon says nothing: it is not used; if the model predicts v, say so: v_prediction"
        )
    for info in infos:
        stated = info.training.get(PREDICTION, "").lower()
        if stated and (stated in _VELOCITY) != (prediction == "v_prediction"):
            yield f"LoRA '{info.name}' was trained to predict {stated}; here {prediction} is predicted"
        if info.training.get(ZERO_SNR, "").lower() == "true" and not (zero_snr and request.spacing == "trailing"):
            yield (
                f"LoRA '{info.name}' was trained with a noise schedule that begins with noise alone (ztsnr): it wants "
                "spacing 'trailing', and a model with that schedule"
            )
