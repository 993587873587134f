"""The write side of a results directory: how results get to the disk and stay there.

Writers use store.ResultStore; files.py is the only caller of fsync and replace. The format and its readers are in
nbrun.results.
"""
