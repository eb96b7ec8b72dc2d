"""Objects as other clients write them: in parts of any size, with any checksum and type."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise

from engine.testing import gate_checksum as checksum
from engine.testing.aws import AwsDouble


def put_in_parts(
    aws: AwsDouble,
    bucket: str,
    key: str,
    data: bytes,
    part_size: int | Sequence[int],
    algorithm: str = "crc32c",
    kind: str = "COMPOSITE",
) -> str:
    """Write an object in parts of one size, or of these sizes; its ETag."""
    target, name = f"/{bucket}/{key}", checksum.HEADER + algorithm
    sums = {"x-amz-checksum-algorithm": algorithm.upper(), "x-amz-checksum-type": kind}
    made = aws.request("POST", f"{target}?uploads", b"", sums).body.decode()
    upload_id = made.partition("<UploadId>")[2].partition("<")[0]
    if isinstance(part_size, int):
        cuts = [*range(0, len(data), part_size), len(data)]
    else:
        cuts = list(accumulate(part_size, initial=0))
    rows = []
    for number, (start, stop) in enumerate(pairwise(cuts), start=1):
        digest = checksum.new_digest(algorithm)
        digest.update(data[start:stop])
        value = checksum.encode(digest.digest())
        where = f"{target}?partNumber={number}&uploadId={upload_id}"
        etag = aws.request("PUT", where, data[start:stop], {name: value}).headers["ETag"]
        field = f"Checksum{algorithm.upper()}"
        rows.append(
            f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag>"
            f"<{field}>{value}</{field}></Part>"
        )
    document = f"<CompleteMultipartUpload>{''.join(rows)}</CompleteMultipartUpload>".encode()
    done = aws.request("POST", f"{target}?uploadId={upload_id}", document)
    assert done.status == 200, done.body
    aws.gate.log.clear()
    return aws.request("HEAD", target).headers["ETag"]
