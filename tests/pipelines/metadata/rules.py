"""How A1111 and CivitAI take a `parameters` text apart, written from their rules alone, sharing no code with ours."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

_PAIR = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')
_WEIGHT = re.compile(r"<(lora|hypernet):([a-zA-Z0-9_.\-]+):([0-9.]+)>")
_TAG = re.compile(r"<(\w+):([^>]+)>")


@dataclass
class Reading:
    """What one of the two would show."""

    prompt: str
    negative_prompt: str
    settings: dict[str, str]
    weights: dict[str, float]
    hashes: dict[str, str]


def as_a1111(text: str) -> Reading:
    """Read as A1111 does: the last line is settings if it has three pairs; any tag gives a weight, signs too."""
    *lines, last = text.strip().split("\n")
    found = _PAIR.findall(last)
    assert len(found) >= 3, "A1111 would take the settings for a part of the prompt"
    settings = {key: json.loads(value) if value[:1] == '"' else value.strip() for key, value in found}
    prompt, negative = [], []
    target = prompt
    for line in lines:
        line = line.strip()
        if line.startswith("Negative prompt:"):
            target, line = negative, line[len("Negative prompt:") :].strip()
        target.append(line)
    tags = [match[1].split(":") for match in _TAG.findall("\n".join(prompt)) if match[0] == "lora"]
    return Reading(
        _TAG.sub("", "\n".join(prompt)).strip(),
        "\n".join(negative),
        settings,
        {parts[0]: float(parts[1]) for parts in tags},
        _hashes(settings.get("Lora hashes", "")),
    )


def as_civitai(text: str) -> Reading:
    """Read as CivitAI does: `Steps: ` begins the settings; two words cut the rest off; only plain tags give weights."""
    assert "Steps: " in text, "CivitAI would not take this for A1111's"
    for word in ("Resources: ", "Hashed prompt: "):
        text = text.split(word)[0]
    lines = [line for line in text.split("\n") if line.strip()]
    place = next(n for n, line in enumerate(lines) if line.startswith("Steps: "))
    head = "\n".join(lines[:place])
    prompt, _, negative = head.partition("\nNegative prompt: ")
    settings = {key: value.strip('"') for key, value in _PAIR.findall(lines[place])}
    weights = {name: float(weight) for _, name, weight in _WEIGHT.findall(prompt)}
    return Reading(prompt, negative, settings, weights, _hashes(settings.get("Lora hashes", "")))


def _hashes(text: str) -> dict[str, str]:
    return dict(part.strip().split(": ") for part in text.split(",")) if text else {}
