"""What the browser is told of every answer: which scripts may run, and that nothing here is for other sites.

Scripts come from this server, or carry the nonce that was drawn for this answer. `unsafe-eval` stays, since gradio
compiles the handlers of its components in the browser; `unsafe-inline` stays for styles, which it writes into elements.
"""

from __future__ import annotations

import secrets
from functools import cache
from typing import Any

from ui.walls.asgi import App, Message, Receive, Scope, Send

NONCE = "medley.nonce"  # where an answer's nonce stands in the scope
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-eval' 'nonce-{nonce}'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; media-src 'self' data: blob:; worker-src 'self' blob:; "
    "connect-src 'self'; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'self'"
)
_FIXED = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"x-frame-options", b"SAMEORIGIN"),
)
_OF_OTHERS = (b"access-control-", b"server")  # gradio's for other sites, which it reflects; and what serves this


class Headers:
    """Adds these headers to every answer, and takes out those that would open it to other sites."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        nonce = secrets.token_urlsafe(16)

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                kept = [
                    pair for pair in message.get("headers", ()) if not bytes(pair[0]).lower().startswith(_OF_OTHERS)
                ]
                policy = (b"content-security-policy", _POLICY.format(nonce=nonce).encode())
                message = {**message, "headers": [*kept, policy, *_FIXED]}
            await send(message)

        await self._app({**scope, NONCE: nonce} if scope["type"] == "http" else scope, receive, told)


@cache
def give_nonces() -> None:
    """Let the scripts in the text of gradio's page carry the nonce of the answer that they are part of."""
    from gradio import routes
    from jinja2 import BaseLoader, Environment

    inner: Any = routes.templates.env.loader

    class Loader(BaseLoader):
        def get_source(self, environment: Environment, template: str) -> Any:
            text, *more = inner.get_source(environment, template)
            return text.replace("<script", f"<script nonce=\"{{{{ request.scope['{NONCE}'] }}}}\""), *more

    routes.templates.env.loader = Loader()
