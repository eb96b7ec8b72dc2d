"""Moving one object: how it is cut, how its bytes are checked, how it becomes visible.

Knows a data plane, a control plane and a lease only as protocols. Read ``upload.py`` and
``download.py`` first; ``parts.py`` has S3's limits.
"""

from engine.transfer.context import CopyRules, TransferContext
from engine.transfer.copy import copy
from engine.transfer.download import download, head
from engine.transfer.limiter import Limiter
from engine.transfer.listing import list_objects, list_pages
from engine.transfer.parts import Part, PartPlan, plan_parts, plan_ranges
from engine.transfer.pieces import StreamSource
from engine.transfer.reader import ObjectReader, open_read
from engine.transfer.slots import SlotStatistics
from engine.transfer.sources import BytesSource, FileSource, open_file
from engine.transfer.streams import ObjectWriter, open_write, upload_stream
from engine.transfer.upload import upload
from engine.transfer.writer import FileWriter

__all__ = [
    "BytesSource",
    "CopyRules",
    "FileSource",
    "FileWriter",
    "Limiter",
    "ObjectReader",
    "ObjectWriter",
    "Part",
    "PartPlan",
    "SlotStatistics",
    "StreamSource",
    "TransferContext",
    "copy",
    "download",
    "head",
    "list_objects",
    "list_pages",
    "open_file",
    "open_read",
    "open_write",
    "plan_parts",
    "plan_ranges",
    "upload",
    "upload_stream",
]
