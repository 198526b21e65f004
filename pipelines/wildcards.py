"""`{a|b}` and `__NAME__` in prompts: one choice for each picture, drawn from the picture's seed, whatever the door.

The grammar and the draws are dynamicprompts'. What it would take for syntax although it can be none stays text:
`#`, `%`, `$`, `//` and `__` that begin nothing, and names of LoRAs. A request that was drawn says so, and is not drawn
again.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from composer.errors import BadRequest
from composer.request import AdapterUse, RenderRequest
from lora_zoo.errors import ZooError, nearest
from pipelines.wildcard_files import Folder

_NAME = re.compile(r"__([\w/*-]{1,200}?)__")
_WILDCARD = re.compile(r"__[~!@]?(?:[\w/*-]|\$?\{[^{}]{0,200}\}){1,200}?(?:\([^()]{0,200}\))?__")
_BOUND = re.compile(r"(?<![%$])\{\s{0,9}[~!@]?\s{0,9}(?:\d{1,9}(?:-\d{0,9})?|-\d{1,9})\$\$(?:[^${}]{0,99}\$\$)?")
_VARIABLE = re.compile(r"\$\{\s{0,9}[A-Za-z_-]")
_TAG = re.compile(r"<(?:lora|lyco):([^<>:]{1,400})")
_PIECE = re.compile(r"\$\{|%\{|\$\$|[{}]")
_MARK = re.compile(r"__|//|/(?=\*)")
_MOST_LENGTH = 20_000  # characters of a prompt with choices, or of one value
_MOST_DRAWN = 100_000  # characters that come of one
_MOST_CHOICES = 200  # of one text, and of all that a request has; each takes its time in every picture
_MOST_DEPTH = 20  # of choices in each other
#: Signs that stand for text, as characters that no text may hold (Unicode's own for internal use), and back.
_SIGNS = "#$%{}|_/"
_AS_TEXT = {ord(sign): 0xFDD0 + place for place, sign in enumerate(_SIGNS)}
_BACK = {code: sign for sign, code in _AS_TEXT.items()}
_RESERVED = re.compile("[\ufdd0-\ufdef]")


def has_choices(text: str) -> bool:
    """Tell whether a text holds signs of choices."""
    return "{" in text or _NAME.search(text) is not None


def drawn(request: RenderRequest, folder: Path | None, known: Callable[[str], bool]) -> RenderRequest:
    """Return a request whose choices are made, by its seed; one whose signs are text, or were drawn, as it is.

    Args:
        request: What is asked for.
        folder: Holds NAME.txt files, one value per line, for `__NAME__`; None: there are none.
        known: Tells names of LoRAs, in which no sign means anything.

    Raises:
        BadRequest: Choices that cannot be read, or wildcards without values.
    """
    if request.choices == "text":
        return request

    def draw(text: str) -> str:
        return expand(text, request.seed, folder, known) if request.prompt_syntax == "a1111" else text

    def placed(use: AdapterUse) -> AdapterUse:
        if use.region is None or use.region.prompt is None:
            return use
        return use.model_copy(update={"region": use.region.model_copy(update={"prompt": draw(use.region.prompt)})})

    if request.prompt_syntax == "a1111":
        _check_number(sum(map(_number, _texts(request))), "the request's prompts together")
    texts = {name: draw(getattr(request, name)) for name in ("prompt", "negative_prompt", "undesired")}
    return request.model_copy(update={**texts, "adapters": tuple(map(placed, request.adapters)), "choices": "text"})


def expand(prompt: str, seed: int, folder: Path | None, known: Callable[[str], bool] = lambda _: False) -> str:
    """Return a text with its choices made; see `drawn`."""
    if not has_choices(prompt):
        return prompt

    def readable(text: str, where: str) -> str:
        _check(text, where)
        return _readable(_protected(text, known), where)

    own = readable(prompt, "the prompt")
    if not has_choices(own):  # all of them stood in names of LoRAs
        return prompt
    names = _NAME.findall(own)
    if names and folder is None:
        raise BadRequest(
            f"the prompt has the wildcard __{names[0]}__ and no folder of values is given; name it with --wildcards"
        )
    files = None if folder is None else Folder(folder, readable)
    found = _sampled(own, prompt, seed, files)
    if left := _NAME.findall(found):
        raise BadRequest(f"there are no values for the wildcard __{left[0]}__{nearest(left[0], _names(files))}")
    if len(found) > _MOST_DRAWN:
        raise BadRequest(f"the choices of the prompt make {len(found):,} characters; at most {_MOST_DRAWN:,} are read")
    return found.translate(_BACK)


def _names(files: Folder | None) -> tuple[str, ...]:
    return () if files is None else files.names


def _texts(request: RenderRequest) -> list[str]:
    regional = [use.region.prompt or "" for use in request.adapters if use.region is not None]
    return [request.prompt, request.negative_prompt, request.undesired, *regional]


def _number(text: str) -> int:
    """Return how many choices a text has, those in others among them; braces in names of LoRAs count too."""
    return text.count("{") + len(_NAME.findall(text))


def _check_number(number: int, where: str) -> None:
    if number > _MOST_CHOICES:
        raise BadRequest(
            f"{where}: {number:,} choices; at most {_MOST_CHOICES} are drawn; write fewer of {{ }} and __NAME__, or "
            "--choices text for signs that are text"
        )


def _check(text: str, where: str) -> None:
    if len(text) > _MOST_LENGTH:
        raise BadRequest(f"{where}: {len(text):,} characters; with choices, at most {_MOST_LENGTH:,} are read")
    if _RESERVED.search(text):
        raise BadRequest(f"{where}: holds a character that Unicode keeps out of texts")
    _check_number(_number(text), where)


def _protected(text: str, known: Callable[[str], bool]) -> str:
    """Make all signs in names of LoRAs text."""
    return _TAG.sub(lambda tag: _literal(tag[0]) if known(tag[1].strip()) else tag[0], text)


def _literal(text: str) -> str:
    return text.translate(_AS_TEXT)


def _readable(text: str, where: str) -> str:
    """Return a text for dynamicprompts, in which each of its signs that is syntax stands, and every other is text."""
    syntax = set(_places(text, where))
    signs = set(_SIGNS) - set("{}|_/")
    pieces = [_literal(sign) if sign in signs and place not in syntax else sign for place, sign in enumerate(text)]
    return _without_lone_marks("".join(pieces))


def _without_lone_marks(text: str) -> str:
    """Make `__` that encloses nothing text, and what would begin a comment."""
    kept: list[str] = []
    last = 0
    for match in _WILDCARD.finditer(text):
        kept += [_MARK.sub(_as_text, text[last : match.start()]), match[0]]
        last = match.end()
    return "".join([*kept, _MARK.sub(_as_text, text[last:])])


def _as_text(match: re.Match[str]) -> str:
    return _literal(match[0])


def _places(text: str, where: str) -> Iterator[int]:
    """Yield the places of `$` and `%` that are syntax; choices nested too deep are an error."""
    bounds = {place for match in _BOUND.finditer(text) for place in range(match.start(), match.end())}
    open_: list[tuple[str, int, list[int]]] = []  # what was opened, where, and the places of $$ in it
    for match in _PIECE.finditer(text):
        sign, place = match[0], match.start()
        if sign == "$$":
            if place in bounds:
                yield from (place, place + 1)
            elif open_ and open_[-1][0] == "%{":
                open_[-1][2].append(place)
        elif sign != "}":
            if sign == "${" and _VARIABLE.match(text, place):
                yield place
            open_.append((sign, place, []))
            if len(open_) > _MOST_DEPTH:
                raise BadRequest(f"{where}: choices are nested more than {_MOST_DEPTH} deep")
        elif open_:
            opened, start, marks = open_.pop()
            if opened == "%{" and marks:
                yield from (start, marks[0], marks[0] + 1)


@lru_cache(maxsize=64)
def _parsed(readable: str) -> Any:
    from dynamicprompts.parser.parse import parse

    return parse(readable)


def _sampled(readable: str, prompt: str, seed: int, files: Folder | None) -> str:
    from dynamicprompts.enums import SamplingMethod
    from dynamicprompts.sampling_context import SamplingContext
    from pyparsing import ParseException

    from pipelines.wildcard_files import manager

    context = SamplingContext(SamplingMethod.RANDOM, manager(files), rand=random.Random(seed))  # noqa: S311
    try:
        return str(next(iter(context.sample_prompts(_parsed(readable), 1))))
    except ParseException as error:
        raise BadRequest(
            f"the choices in the prompt cannot be read, at character {error.loc + 1}: {prompt[:400]!r}; "
            "write {a|b}, or --choices text for braces that are text"
        ) from error
    except RecursionError as error:
        raise BadRequest(f"the wildcards of {prompt[:400]!r} name themselves, or each other, without end") from error
    except ZooError:
        raise
    except Exception as error:  # dynamicprompts raises whatever its own code comes upon
        raise BadRequest(f"the choices in the prompt cannot be made ({error}): {prompt[:400]!r}") from error
