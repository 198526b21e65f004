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

from eval import outputs
from eval.judge.errors import NoJudge

_NO_KEY = "none"


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
        self._openai: Any = import_module("openai")
        self._settings, self._folder, self._sleep = settings, folder, sleep
        key = os.environ.get("OPENAI_API_KEY") or _NO_KEY
        self._client: Any = self._openai.OpenAI(
            base_url=settings.url, api_key=key, timeout=settings.timeout, max_retries=0
        )
        self.asked = 0  # requests that went out

    def known(self, text: str, pictures: Sequence[bytes], turn: int) -> bool:
        """Tell whether an answer is there already."""
        return self._path(text, pictures, turn).is_file()

    def ask(self, text: str, pictures: Sequence[bytes], turn: int = 0) -> str:
        """Return the answer about pictures (PNG files); `turn` counts how often the same was asked anew."""
        path = self._path(text, pictures, turn)
        if path.is_file():
            return str(json.loads(path.read_text("utf-8"))["answer"])
        answer = self._answer(text, pictures)
        content = {"model": self._settings.model, "turn": turn, "question": text, "answer": answer}
        outputs.write_text(json.dumps(content, ensure_ascii=False, indent=1), path)
        return answer

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
                raise NoJudge(f"{self._settings.url} refuses: {error.status_code} {error.message}") from error
        raise NoJudge(f"{self._settings.url} did not answer in {self._settings.tries} tries: {last}") from last

    def _once(self, content: list[dict[str, object]]) -> str:
        self.asked += 1
        reply = self._client.chat.completions.create(
            model=self._settings.model,
            temperature=self._settings.temperature,
            max_tokens=self._settings.max_tokens,
            messages=[{"role": "user", "content": content}],
        )
        return reply.choices[0].message.content or "" if reply.choices else ""

    def _path(self, text: str, pictures: Sequence[bytes], turn: int) -> Path:
        one = self._settings
        head = json.dumps([one.url, one.model, one.temperature, one.max_tokens, text, turn])
        found = hashlib.sha256(head.encode())
        for picture in pictures:
            found.update(hashlib.sha256(picture).digest())
        return self._folder / f"{found.hexdigest()[:40]}.json"
