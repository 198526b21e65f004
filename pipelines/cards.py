"""What a merged model says of itself: its recipe, for programs and for people."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from composer.merges.common import RECIPE
from composer.sharing import display_name

if TYPE_CHECKING:
    from pydantic import JsonValue

    from pipelines.merges import Merged


@dataclass(frozen=True)
class Card:
    """A recipe, and the same for people."""

    recipe: dict[str, JsonValue]
    text: str


def of_checkpoint(made: Merged, title: str) -> Card:
    """Describe a model with LoRAs in its weights."""
    stated = json.loads(made.adapter.metadata[RECIPE])
    loras: list[dict[str, JsonValue]] = []
    for member, use in zip(made.members, made.resolved.request.adapters, strict=True):
        loras.append(
            {
                "name": display_name(use.name),
                "sha256": use.sha256,
                "weight": use.weight,
                "text_encoder_weight": use.text_encoder_weight,
                "trigger_words": member.metadata.get("modelspec.trigger_phrase", ""),
                "licence": member.metadata.get("modelspec.license", ""),
            }
        )
    recipe: dict[str, JsonValue] = {
        "base_model": made.resolved.spec.path.name,
        "method": stated["method"],
        "parameters": stated["parameters"],
        "loras": list(loras),
        "measured": dict(made.measured),
    }
    return Card(recipe, _text(recipe, loras, title))


def _text(recipe: dict[str, JsonValue], loras: list[dict[str, JsonValue]], title: str) -> str:
    rows = "\n".join(
        f"| {one['name']} | {one['weight']:g} | {one['text_encoder_weight']:g} | {one['trigger_words'] or '–'} "
        f"| {one['licence'] or 'not stated'} |"
        for one in loras
    )
    return f"""# {title}

`{recipe["base_model"]}` with {len(loras)} LoRA{"s" if len(loras) > 1 else ""} merged into its weights by the method
`{recipe["method"]}`; `medley.json` has every parameter and the files' sha256. The licences of the base model and of
every LoRA apply to this model too.

| LoRA | weight | in the text encoder | trigger words | licence |
|---|---|---|---|---|
{rows}

```python
from diffusers import StableDiffusionPipeline

pipeline = StableDiffusionPipeline.from_pretrained("path/to/{title}")
```
"""
