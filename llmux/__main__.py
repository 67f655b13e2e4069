"""`python -m llmux`."""

from llmux.cli import main

main()
