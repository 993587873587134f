"""The read side of a results directory: its format, and readers that need no lock and work while a run writes.

format.py is the specification of the format. Nothing here starts a thread, takes a lock or changes a saved result; the
write side is nbrun.storage.
"""
