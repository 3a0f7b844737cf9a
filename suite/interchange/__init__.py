"""Circuit files, ours and other tools', so that anybody's circuit can be scored. No circuit file is unpickled.

Read, told apart by what they hold: the graph JSON of EAP-IG and MIB (ours is that with one more key); JSON lists of
edges under the names of auto-circuit, of ACDC, or ours; and the graph drawings (.gv) that ACDC writes. Models of other
benchmarks are read, too (interpbench.py, tracrbench.py).
"""

from .circuit_file import CircuitFile, EdgeList, exactly_on
from .files import CIRCUIT_FORMATS, inputs_of, load, read, save, says_all
from .origin import Origin

__all__ = [
    "CIRCUIT_FORMATS",
    "CircuitFile",
    "EdgeList",
    "Origin",
    "exactly_on",
    "inputs_of",
    "load",
    "read",
    "save",
    "says_all",
]
