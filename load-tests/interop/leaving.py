"""How a program ends whose libraries keep threads of their own: with the exit code that it has earned.

Arrow's I/O and CPU threads may still run when the interpreter is torn down, and C++ then ends the process by SIGABRT
("terminate called without an active exception") although all its work is done. So what has been said is flushed and the
process ends at once, without that teardown. Whoever calls this has written its files and stopped its servers; an abort
before that is still an abort.
"""

import os
import sys
import unittest


def leave(code=0):
    """Never returns."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def test(modules):
    """Runs unit tests, says how they went by its exit code and never returns."""
    leave(0 if unittest.main(module=None, argv=["test", "-q", *modules], exit=False).result.wasSuccessful() else 1)


if __name__ == "__main__":
    test(sys.argv[1:])
