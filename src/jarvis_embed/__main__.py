"""``python -m jarvis_embed`` is ``jarvis-embed``."""

from .cli import main

main()
