"""What stands between the network and the application: each wall is a small ASGI application around the next one.

From the outside in: `headers` tells the browser what a page may do; `hosts` refuses names that this server does not go
by, and pages of other sites; `password` lets in who knows it; `routes` closes every address of gradio's that the page
does not need; `bodies` counts what is sent; `tickets` names what was uploaded. Begin reading at `asgi`.
"""
