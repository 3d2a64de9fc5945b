"""What people run against small files: `optimize.compact`.

`compactor.py TABLE TARGET_BYTES` makes large files of a Delta table's small ones, as large as Pintail's and with its codec.
"""

import sys

import deltalake
from deltalake import DeltaTable, WriterProperties
from measuring import measured

TABLE, TARGET_BYTES = sys.argv[1], int(sys.argv[2])

with measured(deltalake.__version__):
    DeltaTable(TABLE).optimize.compact(target_size=TARGET_BYTES, writer_properties=WriterProperties(compression="ZSTD", compression_level=1))
