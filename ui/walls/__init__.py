"""What stands between the network and the application: each wall is a small ASGI application around the next one.

From the outside in: `headers` tells the browser what a page may do; `hosts` refuses names that this server does not go
by, and pages of other sites; `password` lets in who knows it; `routes` closes every address of gradio's that the page
does not need; `crowds` counts what each visitor has under way; `bodies` counts what is sent; `tickets` names what was
uploaded. `patient` is no application but the protocol below them. Begin reading at `asgi`.
"""
