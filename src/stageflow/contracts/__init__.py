"""The nouns: frozen, strict Pydantic models for every value that crosses a boundary."""
