"""Suites, metrics and reports."""
