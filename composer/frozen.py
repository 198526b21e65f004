"""What requests and settings are made of: values that never change, whose mistakes are told in plain words."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from composer.errors import BadRequest
from lora_zoo.errors import BadFile, nearest, shortened
from lora_zoo.foreign import text as characters

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

#: What pydantic calls a value out of its range.
_RANGES = ("greater_than", "greater_than_equal", "less_than", "less_than_equal")

_MOST_TOLD = 20  # mistakes in one message; looking for the name nearest to each takes its time


class Frozen(BaseModel):
    """A value: never changed after it is made, refusing unknown keys and non-finite numbers.

    What is wrong with the keys or values that it is made with, or copied with, is a `BadRequest`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    _mistake: ClassVar[type[BadRequest]] = BadRequest

    if not TYPE_CHECKING:  # type checkers know the fields as parameters; this would hide them

        def __init__(self, /, **data: Any) -> None:
            try:
                super().__init__(**data)
            except ValidationError as error:
                raise self._told(error) from None  # whose text names pages of pydantic's

        __init__.__pydantic_base_init__ = True  # validation from outside needs no detour through it

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy with some fields changed; an unknown field, or a value that it cannot have, is an error."""
        if not update:
            return super().model_copy(deep=deep)
        try:
            changed = type(self).model_validate({**dict(self), **update})
        except ValidationError as error:
            raise self._told(error) from None
        return changed.model_copy(deep=True) if deep else changed

    @classmethod
    def _told(cls, error: ValidationError) -> BadRequest:
        return cls._mistake(explain(error, tuple(cls.model_fields), cls.model_fields))

    @model_validator(mode="after")
    def _holds_whole_characters(self) -> Self:
        """Refuse halves of characters, which neither a record nor an answer can hold."""
        for name, value in self:
            for text in _texts(value):
                try:
                    characters.check(text, name)
                except BadFile as error:
                    raise ValueError(str(error)) from None
        return self


def _texts(value: object) -> Iterator[str]:
    """Yield all texts in a value, keys included; other models check their own."""
    waiting = [value]
    while waiting:
        held = waiting.pop()
        if isinstance(held, str):
            yield held
        elif isinstance(held, Mapping):
            waiting += [*held, *held.values()]
        elif isinstance(held, list | tuple):
            waiting += held


def explain(error: ValidationError, known: Collection[str], fields: Mapping[str, FieldInfo] | None = None) -> str:
    """Return pydantic's findings as one line, with the nearest known key for an unknown one.

    With the model's fields, a value out of a field's range is told what the field says of itself.
    """
    lines: list[str] = []
    findings = error.errors(include_url=False)
    for finding in findings[:_MOST_TOLD]:
        place = ".".join(str(part) for part in finding["loc"])
        if finding["type"] == "extra_forbidden" and len(finding["loc"]) == 1:
            lines.append(f"unknown key '{place}'{nearest(place, known)}")
            continue
        message = finding["msg"].removeprefix("Value error, ")
        if finding["type"] == "string_unicode":
            message = "half of a character in a text, which cannot be written"
        value = (
            ""
            if isinstance(finding["input"], dict | list | tuple | BaseModel)
            else f" (got {shortened(finding['input'])})"
        )
        lines.append(
            f"{place}: {message}{value}{_said((fields or {}).get(place), finding['type'])}" if place else message
        )
    if len(findings) > _MOST_TOLD:
        lines.append(f"and {len(findings) - _MOST_TOLD:,} mistakes more")
    return characters.escaped("; ".join(lines))


def _said(field: FieldInfo | None, wrong: str) -> str:
    """Return what a field says of its range, for a value out of it."""
    if field is None or field.description is None or wrong not in _RANGES:
        return ""
    return f"; {field.description.rstrip('.')}"
