"""StoreLimits: what a store allows of parts and objects, one profile a store. PURE.

What lives here: numbers and where they are from. What must not: how an object is cut
(``transfer.parts``), what the user asks for (``config``).

A server with the S3 API has limits of its own. The profile is chosen by name, not guessed from
the endpoint's host: a host says little of the software behind it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from engine.errors import UsageError
from engine.types import GiB, MiB, TiB

_GB = 1000**3
_TB = 1000**4


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """Limits of one store. Sizes are bytes.

    Attributes:
        name: Of the profile.
        min_part_size: Of all parts but the last, which may be smaller.
        max_part_size: Of any part, copied ones too.
        max_parts: Parts of one upload; their numbers are 1 to this.
        max_object_size: Of an object made of parts.
        max_put_size: Of an object written by one PutObject.
        max_copy_size: Of an object copied by one CopyObject.
        equal_parts: All parts but the last must have the same size.
    """

    name: str = "aws"
    min_part_size: int = 5 * MiB
    max_part_size: int = 5 * GiB
    max_parts: int = 10_000
    max_object_size: int = 10_000 * 5 * GiB
    max_put_size: int = 5 * GiB
    max_copy_size: int = 5 * GiB
    equal_parts: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.min_part_size <= self.max_part_size:
            raise UsageError(f"parts of {self.min_part_size} to {self.max_part_size} bytes")
        if not 1 <= self.max_object_size <= self.max_parts * self.max_part_size:
            raise UsageError(
                f"an object of {self.max_object_size} bytes does not fit into {self.max_parts} "
                f"parts of {self.max_part_size}"
            )
        if self.max_put_size < self.min_part_size or self.max_copy_size < self.min_part_size:
            raise UsageError("a single request must hold at least the smallest part")

    @classmethod
    def of(cls, name: str) -> StoreLimits:
        """The profile of that name.

        Raises:
            UsageError: There is none.
        """
        found = PROFILES.get(name)
        if found is None:
            raise UsageError(
                f"unknown store profile {name!r}", fix=f"One of {', '.join(sorted(PROFILES))}"
            )
        return found


AWS = StoreLimits()
"""https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html: 48.8 TiB, which is 10,000
parts of 5 GiB. CopyObject: .../AmazonS3/latest/API/API_CopyObject.html"""

# https://docs.aws.amazon.com/AmazonS3/latest/userguide/directory-bucket-naming-rules.html
_DIRECTORY_BUCKET = "--x-s3"


def lists_in_order(bucket: str) -> bool:
    """Whether a listing is in the order of the keys' UTF-8 bytes: all but those of directory
    buckets are.

    https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html
    """
    return not bucket.endswith(_DIRECTORY_BUCKET)


_ALL = (
    AWS,
    # docs.ceph.com, radosgw configuration: rgw_multipart_min_part_size 5 MiB,
    # rgw_multipart_part_upload_limit 10000, rgw_max_put_size 5 GiB, for parts too. An object has
    # no limit but these.
    StoreLimits("ceph"),
    # https://cloud.google.com/storage/quotas and /docs/multipart-uploads: objects of 5 TiB, also
    # by a single request; parts as at AWS.
    StoreLimits("gcs", max_object_size=5 * TiB, max_put_size=5 * TiB),
    # https://developers.cloudflare.com/r2/platform/limits/: uploads 5 MiB below 5 GiB, objects
    # 5 GiB below 5 TiB; .../r2/objects/multipart-objects/: parts of one size.
    StoreLimits(
        "r2",
        max_part_size=5 * GiB - 5 * MiB,
        max_object_size=5 * TiB - 5 * GiB,
        max_put_size=5 * GiB - 5 * MiB,
        max_copy_size=5 * GiB - 5 * MiB,
        equal_parts=True,
    ),
    # https://www.backblaze.com/docs/cloud-storage-large-files: parts of 5 MB to 5 GB, files of
    # 10 TB, 5 GB by one request. Decimal, as that page writes them.
    StoreLimits(
        "b2",
        min_part_size=5_000_000,
        max_part_size=5 * _GB,
        max_object_size=10 * _TB,
        max_put_size=5 * _GB,
        max_copy_size=5 * _GB,
    ),
    # https://min.io/docs/minio/linux/operations/concepts/thresholds.html: single PUT 5 TiB. Its
    # 50 TiB for an object are more than its 10,000 parts of 5 GiB hold.
    StoreLimits("minio", max_put_size=5 * TiB),
    # What S3 itself allowed for most of its life, and what older servers that imitate it do.
    StoreLimits("s3-classic", max_object_size=5 * TiB),
)
PROFILES: Mapping[str, StoreLimits] = MappingProxyType({limits.name: limits for limits in _ALL})
"""All profiles by name."""
