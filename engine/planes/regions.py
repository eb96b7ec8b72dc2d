"""Which region a bucket is in, as far as an engine has learned it.

What lives here: what is known of buckets, and whether an answer that names another region is
believed. What must not: sockets, signing, names of hosts (``_wire.partitions``).

A bucket's region is never a host: the host is made from it here, so an answer can send a request
to another of AWS's regions of the same partition and to nobody else. With an address of the user's
own the host stays and only the signature changes.
https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingBucket.html
"""

from __future__ import annotations

from typing import final

import anyio

from engine._wire.partitions import partition_of
from engine.config import Endpoints
from engine.errors import UsageError
from engine.events import BucketElsewhere, Emit

# Answers that mean "not in this region" where they name another one. The bare ones answer HEAD.
# https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
WRONG_REGION = frozenset(
    {
        "301",
        "307",
        "400",
        "AuthorizationHeaderMalformed",
        "IllegalLocationConstraintException",
        "PermanentRedirect",
        "Redirect",
        "TemporaryRedirect",
    }
)
# A bucket can be deleted and made again elsewhere, but not over and over within one run.
MAX_MOVES = 3


@final
class BucketRegions:
    """The regions of the buckets that one engine works with.

    Args:
        emit: Told once of each bucket that is elsewhere.
    """

    def __init__(self, endpoints: Endpoints, emit: Emit) -> None:
        self._endpoints = endpoints
        self._emit = emit
        self._known: dict[str, str] = {}
        self._moves: dict[str, int] = {}
        self.asking = anyio.Lock()

    def of(self, bucket: str) -> str:
        """The region to sign for."""
        return self._known.get(bucket, self._endpoints.region)

    def should_ask(self, bucket: str) -> bool:
        """Whether nobody gave a region and the bucket has not said its own. An address of the
        user's own is not asked: most of them know one region, whatever it is called."""
        given = self._endpoints.region_from or self._endpoints.s3 is not None
        return not given and bucket not in self._known

    def asked(self, bucket: str, answer: str | None) -> None:
        """The bucket was asked; ``answer`` is what it said."""
        if answer is None or not self.follow(bucket, self._endpoints.region, answer):
            self._known.setdefault(bucket, self._endpoints.region)

    def follow(self, bucket: str, used: str, region: str) -> bool:
        """Whether a request to ``bucket`` that was signed for ``used`` is made again for
        ``region``, which an answer named."""
        if region == used or not self._may_be(region):
            return False
        if self._known.get(bucket) == region:
            return True  # another request has learned it meanwhile
        if self._endpoints.region_mismatch == "error" and self._endpoints.region_from:
            return False
        self._moves[bucket] = moves = self._moves.get(bucket, 0) + 1
        if moves > MAX_MOVES:
            return False
        self._known[bucket] = region
        if moves == 1:
            asked, place = self._endpoints.region, self._endpoints.region_from
            self._emit(BucketElsewhere(bucket, region, asked, place))
        return True

    def _may_be(self, region: str) -> bool:
        try:
            partition = partition_of(region)
            return self._endpoints.s3 is not None or partition == partition_of(
                self._endpoints.region
            )
        except UsageError:
            return False

    def __repr__(self) -> str:
        return f"<BucketRegions {self._known or self._endpoints.region}>"
