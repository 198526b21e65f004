"""The one door for everything that strangers write: files, JSON and YAML, patterns, text.

Paths and bytes come in from outside; checked bytes, plain values, linear-time patterns and whole characters go out, or
a typed error. No other code opens a stranger's file, parses a stranger's JSON or YAML, or compiles a stranger's
pattern (`tests/security/test_one_policy.py` holds the house to it). Begin reading at `files`.
"""
