"""Composition methods: which forward passes each one asks for. Pure: no files, no devices."""
