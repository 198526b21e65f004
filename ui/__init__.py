"""The web page, and the service behind it. Nothing but the files that build the page imports gradio."""
