"""Pictures of the frames that load_results, rates and confusion make. Each function draws on an Axes and returns it.

Colours differ in lightness as much as in hue, so that they are told apart in grey and by colour-blind eyes; lines
differ in their strokes too. Needs matplotlib (`pip install "nbrun[plots]"`). Any thread that matplotlib allows.
"""

from nbrun.plots.judging import confusion, tpr_tnr, verdicts
from nbrun.plots.running import endpoints, progress, throughput, times

__all__ = ["confusion", "endpoints", "progress", "throughput", "times", "tpr_tnr", "verdicts"]
