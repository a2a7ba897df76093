"""The exit codes of the command line.

| code | means |
|---|---|
| 0 | good |
| 1 | the spec is invalid, or the data to be measured, or a file of weights |
| 2 | usage: an option, or a file that cannot be read or written |
| 3 | valid, but the spec misses its own target or prediction, or the weights are not what it asks for |
| 70 | a bug in critinit |
| 71 | there is not enough memory |
| 130 | interrupted |

70 and 71 are those of ``sysexits.h`` for internal errors and for what the system does not give; 130 is a shell's.
"""

from __future__ import annotations

__all__ = ["BUG", "GOOD", "INTERRUPTED", "INVALID", "MEMORY", "MISSED", "USAGE"]

GOOD = 0
INVALID = 1
USAGE = 2
MISSED = 3
BUG = 70
MEMORY = 71
INTERRUPTED = 130
