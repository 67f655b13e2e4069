"""Adapters: each translates the canonical Prompt to one provider and that provider's signals to canonical chunks and failures."""
