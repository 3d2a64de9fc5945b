"""ministack with sequence numbers as Kinesis writes them.

Why: ministack pads a clock with leading zeros to 30 digits; Kinesis's API allows no leading zero, and Pintail
refuses such a number. This is the only change: 56 digits, as in practice, rising as before.
"""

import itertools
import time

from ministack.app import main
from ministack.services import kinesis

_counter = itertools.count(1)


def _next_sequence_number():
    return f"4966{time.time_ns() // 1_000_000:020d}{next(_counter):032d}"


kinesis._next_sequence_number = _next_sequence_number

if __name__ == "__main__":
    main()
