"""A vision model behind an OpenAI-compatible address, by the openai client; answers are kept on the disk.

The key comes from the environment (OPENAI_API_KEY); a server on one's own machine needs none.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from eval import outputs
from eval.judge.errors import NoJudge
from lora_zoo.foreign.text import escaped
from pipelines import cli_output

_NO_KEY = "none"
_SHOWN = 200  # characters of what a stranger says


@dataclass(frozen=True)
class _Kept:
    """An answer as it is kept."""

    model: str
    turn: int
    question: str
    answer: str


@dataclass(frozen=True)
class Settings:
    """Whom to ask, and how patiently."""

    url: str
    model: str
    temperature: float = 1.0  # the published protocol's
    max_tokens: int = 2048
    timeout: float = 120.0  # seconds of one try
    tries: int = 5
    pause: float = 1.0  # seconds after the first failure; doubled each time


class Endpoint:
    """Asks, waits when it is told to, and never asks the same thing twice."""

    def __init__(self, settings: Settings, folder: Path, sleep: Callable[[float], None] = time.sleep) -> None:
        if find_spec("openai") is None:
            raise NoJudge("a judge needs the openai client; install requirements-judge.txt")
        _check_address(settings.url)
        self._openai: Any = import_module("openai")
        self._settings, self._folder, self._sleep = settings, folder, sleep
        key = os.environ.get("OPENAI_API_KEY") or _NO_KEY
        self._client: Any = self._openai.OpenAI(
            base_url=settings.url, api_key=key, timeout=settings.timeout, max_retries=0
        )
        self.asked = 0  # requests that went out

    @property
    def unreadable(self) -> Path:
        """The folder of answers that came and could not be read: to be looked at, never used."""
        return self._folder.parent / "unreadable"

    @property
    def tries(self) -> int:
        """How often one question is sent at most, where the server fails."""
        return self._settings.tries

    def kept(self, text: str, pictures: Sequence[bytes], turn: int) -> str | None:
        """Return an answer that was kept; None if there is none.

        Raises:
            BadRun: Its file is damaged.
        """
        path = self._path(text, pictures, turn)
        return outputs.read(_Kept, path, "remove it, and it is asked anew").answer if path.is_file() else None

    def ask(self, text: str, pictures: Sequence[bytes]) -> str:
        """Return a new answer about pictures (PNG files); whoever can read it keeps it."""
        return self._answer(text, pictures)

    def keep(self, text: str, pictures: Sequence[bytes], turn: int, answer: str, readable: bool = True) -> None:
        """Keep an answer; `turn` counts how often the same was asked anew. Unreadable ones lie apart."""
        path = self._path(text, pictures, turn)
        content = _Kept(self._settings.model, turn, text, answer)
        outputs.write_summary(content, path if readable else self.unreadable / path.name)

    def _answer(self, text: str, pictures: Sequence[bytes]) -> str:
        content: list[dict[str, object]] = [{"type": "text", "text": text}]
        for picture in pictures:
            address = f"data:image/png;base64,{base64.b64encode(picture).decode('ascii')}"
            content.append({"type": "image_url", "image_url": {"url": address}})
        last: Exception | None = None
        for attempt in range(self._settings.tries):
            if attempt:
                self._sleep(self._settings.pause * 2 ** (attempt - 1))
            try:
                return self._once(content)
            except (
                self._openai.RateLimitError,
                self._openai.InternalServerError,
                self._openai.APIConnectionError,  # its time limit included
            ) as error:
                last = error
            except self._openai.APIStatusError as error:
                raise NoJudge(f"{self._settings.url} refuses: {error.status_code} {brief(error.message)}") from error
            except (self._openai.OpenAIError, ValueError) as error:  # the latter where JSON is not
                raise NoJudge(f"{self._settings.url} does not speak as OpenAI's do: {brief(str(error))}") from error
        told = brief(str(last))
        raise NoJudge(f"{self._settings.url} did not answer in {self._settings.tries} tries: {told}") from last

    def _once(self, content: list[dict[str, object]]) -> str:
        self.asked += 1
        reply = self._client.chat.completions.create(
            model=self._settings.model,
            temperature=self._settings.temperature,
            max_tokens=self._settings.max_tokens,
            messages=[{"role": "user", "content": content}],
        )
        try:
            answer = reply.choices[0].message.content if reply.choices else ""
        except (AttributeError, LookupError, TypeError) as error:  # the client takes any page for an answer
            raise NoJudge(f"{self._settings.url} does not speak as OpenAI's do: {brief(str(reply))}") from error
        return escaped(answer) if isinstance(answer, str) else ""

    def _path(self, text: str, pictures: Sequence[bytes], turn: int) -> Path:
        one = self._settings
        head = json.dumps([one.url, one.model, one.temperature, one.max_tokens, text, turn])
        found = hashlib.sha256(head.encode())
        for picture in pictures:
            found.update(hashlib.sha256(picture).digest())
        return self._folder / f"{found.hexdigest()[:40]}.json"


def brief(text: str) -> str:
    """Return what a stranger says as one short line that cannot steer a terminal."""
    said = cli_output.printable(escaped(" ".join(text.split())))
    return said if len(said) <= _SHOWN else f"{said[:_SHOWN]}…"


def _check_address(url: str) -> None:
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets without an end, a port that is no number
        good = False
    if not good:
        raise NoJudge(f"--judge-url {url!r} is no address of a server; for example http://127.0.0.1:8000/v1")
