"""Hostile inputs for every decoder, judged by checks that were written without looking at the decoders."""
