"""The results directory: what is on the disk, how it gets there, and how it is read again.

format.py is the specification. Writers go through store.ResultStore, readers through reader.read_results; files.py is
the only caller of fsync and replace.
"""
