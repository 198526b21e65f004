"""What was found in a picture, and the draft that readers fill: numbers are checked as they enter, and whatever is not
taken is said, so that nothing is guessed silently.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from composer.request import ANY_SEED, MAX_SEED, Hires, Schedule, Spacing
from lora_zoo.hashes import clean_hash
from pipelines.errors import BadMetadata
from pipelines.metadata import samplers

MOST_LORAS = 100
_MOST_NOTES = 60
_LONGEST_SHOWN = 120  # characters of a stranger's text in a message


@dataclass(frozen=True)
class FoundLora:
    """A LoRA as a picture names it."""

    name: str
    weight: float | None = None  # None: the picture does not say
    text_encoder_weight: float | None = None  # None: as `weight`
    hash: str | None = None  # as written, in lower case; which kind of hash shows in its length
    blocks: str = ""  # weights by block, as written
    schedule: Schedule | None = None


@dataclass(frozen=True)
class Found:
    """How a picture says it was made, in this project's words. None: it does not say, or not in a way to be used."""

    tool: str
    prompt: str
    negative_prompt: str
    steps: int | None
    sampler: str | None  # as the tool calls it
    scheduler: str | None  # what this project calls it
    guidance_scale: float | None
    width: int | None
    height: int | None
    seed: int | None
    loras: tuple[FoundLora, ...]
    model: str | None
    model_hash: str | None
    unresolved: tuple[str, ...]  # what the picture says beyond this, one remark each
    hires: Hires | None = None
    spacing: Spacing | None = None

    def refused(self, name: str) -> bool:
        """Tell whether the picture states this, and a remark says why it cannot be used."""
        return any(remark.startswith(f"{name} ") for remark in self.unresolved)


@dataclass
class Draft:
    """A `Found` in the making."""

    tool: str
    prompt: str = ""
    negative_prompt: str = ""
    model: str | None = None
    model_hash: str | None = None
    sampler: str | None = None
    scheduler: str | None = None
    spacing: Spacing | None = None
    numbers: dict[str, float | int] = field(default_factory=dict)
    loras: list[FoundLora] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    hires: Hires | None = None

    def note(self, text: str) -> None:
        """Keep a remark, once; past a limit only that there are more, since a stranger decides how many."""
        if len(self.notes) < _MOST_NOTES and text not in self.notes:
            self.notes.append(text)
        elif len(self.notes) == _MOST_NOTES:
            self.notes.append("more of this kind, not listed")

    def whole(self, name: str, value: object, low: int, high: int) -> None:
        """Take a whole number within limits; an absent one is no remark, any other is."""
        if value is None or value == "":
            return
        number = as_number(value)
        if number is None or number != int(number) or not low <= int(number) <= high:
            self.note(f"{name} {shown(value)}: not a whole number from {low} to {high}; the default is used")
        else:
            self.numbers[name] = int(number)

    def guidance(self, value: object) -> None:
        """Take the guidance scale."""
        if value is None or value == "":
            return
        number = as_number(value)
        if number is None or not 1 <= number <= 100:
            self.note(f"guidance scale {shown(value)}: not a number from 1 to 100; the default is used")
        else:
            self.numbers["guidance_scale"] = float(number)

    def sizes(self, width: object, height: object) -> None:
        """Take the size in pixels."""
        self.whole("width", width, 1, 8192)
        self.whole("height", height, 1, 8192)

    def count_and_seed(self, steps: object, seed: object) -> None:
        """Take the number of steps and the seed."""
        self.whole("steps", steps, 1, 1000)
        self.whole("seed", seed, ANY_SEED, MAX_SEED)

    def solver(self, names: samplers.Names, sampler: object, schedule: object = None) -> None:
        """Take the sampler and find what it is called here."""
        if sampler is None or sampler == "":
            return
        self.sampler = as_text(sampler, "sampler").strip()
        stated = as_text(schedule, "schedule").strip() if schedule else None
        choice = samplers.translate(names, self.sampler, stated)
        self.scheduler, self.spacing = choice.scheduler, choice.spacing
        if stated:
            self.sampler = f"{self.sampler} / {stated}"
        if choice.remark:
            self.note(choice.remark)

    def lora(
        self,
        name: object,
        weights: tuple[object, object] = (None, None),
        digest: object = None,
        blocks: str = "",
        schedule: Schedule | None = None,
    ) -> None:
        """Add a LoRA with its weights in the UNet and in the text encoder, by block and over the steps."""
        if len(self.loras) == MOST_LORAS:
            raise BadMetadata(f"the picture names more than {MOST_LORAS} LoRAs")
        text = sound(stem(as_text(name, "name of a LoRA")))
        if text:
            model, encoder = (self._weight(text, weight) for weight in weights)
            self.loras.append(FoundLora(text, model, encoder, clean_hash(digest), blocks, schedule))

    def finish(self) -> Found:
        """Return what was found."""
        numbers = self.numbers
        steps, width, height, seed = (
            None if name not in numbers else int(numbers[name]) for name in ("steps", "width", "height", "seed")
        )
        return Found(
            tool=self.tool,
            prompt=sound(self.prompt.strip()),
            negative_prompt=sound(self.negative_prompt.strip()),
            steps=steps,
            sampler=sound(self.sampler or "") or None,
            scheduler=self.scheduler,
            guidance_scale=numbers.get("guidance_scale"),
            width=width,
            height=height,
            seed=seed,
            loras=tuple(self.loras),
            model=sound(stem(self.model or "")) or None,
            model_hash=self.model_hash,
            unresolved=tuple(self.notes),
            hires=self.hires,
            spacing=self.spacing,
        )

    def _weight(self, name: str, value: object) -> float | None:
        if value is None:
            return None
        number = as_number(value)
        if number is None or abs(number) > 100:
            self.note(f"weight {shown(value)} of LoRA {shown(name)}: not a number from -100 to 100")
            return None
        return float(number)


def as_number(value: object) -> float | int | None:
    """Return a finite number, also one written as text; whole ones keep all their digits."""
    if isinstance(value, bool) or not isinstance(value, int | float | str) or len(str(value)[:400]) > 399:
        return None
    try:
        return int(value) if not isinstance(value, float) else _finite(value)
    except ValueError:
        pass
    try:
        return _finite(float(value))
    except ValueError:
        return None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def as_text(value: object, what: str) -> str:
    """Check a text that came out of JSON."""
    if not isinstance(value, str):
        raise BadMetadata(f"the picture's {what} is not text but {shown(value)}")
    return value


def as_object(value: object, what: str) -> Mapping[str, object]:
    """Check an object that came out of JSON, whose keys are texts."""
    if not isinstance(value, dict):
        raise BadMetadata(f"the picture's {what} is not an object but {shown(value)}")
    return value


def as_list(value: object, what: str) -> list[object]:
    """Check a list that came out of JSON."""
    if not isinstance(value, list):
        raise BadMetadata(f"the picture's {what} is not a list but {shown(value)}")
    return value


def sound(text: str) -> str:
    """Replace halves of characters, which JSON can state and no terminal or file can hold."""
    return text.encode("utf-8", "replace").decode("utf-8")


def stem(name: str) -> str:
    """Return a file's name without folders and suffix, as tools name models: some of them keep a path of theirs."""
    last = name.strip().replace("\\", "/").rsplit("/", 1)[-1]
    for suffix in (".safetensors", ".ckpt", ".pt"):
        last = last.removesuffix(suffix)
    return last


def decimal(value: float) -> str:
    """Return a number exactly and without an exponent or the sign of a negative zero, which CivitAI does not read."""
    return format(Decimal(repr(value + 0.0)).normalize(), "f")


def shown(value: object) -> str:
    """Return a stranger's value as a message may show it: cut, and with control characters escaped."""
    if not isinstance(value, str | int | float | bool | None):
        return "an object" if isinstance(value, dict) else "a list"
    text = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(str(value)[:300])
    return text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN - 3]}..."
