"""Tools for results directories that no run needs: archive, merge, check and repair.

Only the package's public functions and the command line import them.
"""
