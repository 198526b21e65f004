"""Files as every package writes them.

In: bytes and where they belong. Out: files that are there whole or not at all. Begin with `atomic.write`.
"""
