"""What an engine is asked to do.

Each engine is one file beside this one: `ENGINE.py KIND JOB INPUT OUTPUT`. KIND is pin, geo or user; JOB is clean (to columns in memory) or
parquet (to one file under zstd 1); INPUT is a file of JSON lines, OUTPUT the Parquet file. One thread.
"""

import sys

import cleaning

KIND, JOB, INPUT, OUTPUT = sys.argv[1:5]
FIELDS = cleaning.FIELDS[KIND]
