"""The origin of the comparison does what the comparison relies on: bytes, checksums, delays."""

from __future__ import annotations

import base64
import http.client
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from urllib.parse import urlsplit
from xml.etree import ElementTree

import pytest
from awscrt import checksums

from benchmarks.fast_origin.build import CannotBuild, Programs, build
from benchmarks.fast_origin.process import OriginProcess

BUCKET = "bucket"
DATA = Random(7).randbytes(300_001)
SUMS = {
    "crc64nvme": (checksums.crc64nvme, 8),
    "crc32c": (checksums.crc32c, 4),
    "crc32": (checksums.crc32, 4),
}
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Programs:
    try:
        return build(tmp_path_factory.mktemp("programs"))
    except CannotBuild as error:
        if "failed for" in str(error):
            raise
        pytest.skip(f"no C compiler: {error}")


@pytest.fixture
def origin(programs: Programs, tmp_path: Path) -> Iterator[OriginProcess]:
    with OriginProcess(programs, tmp_path, threads=2, tls=programs.tls) as process:
        yield process


class Client:
    """One connection that is kept."""

    def __init__(self, origin: OriginProcess, transport: str = "http") -> None:
        url = urlsplit(origin.endpoint(transport))
        assert url.hostname is not None
        if transport == "http":
            self.connection = http.client.HTTPConnection(url.hostname, url.port, timeout=20)
        else:
            trust = ssl.create_default_context(cafile=origin.ca)
            self.connection = http.client.HTTPSConnection(
                url.hostname, url.port, timeout=20, context=trust
            )

    def ask(
        self, method: str, target: str, body: bytes = b"", **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        """Headers are written with _ for -; those of the answer are in lower case."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        self.connection.request(method, target, body or None, sent)
        answer = self.connection.getresponse()
        got = {name.lower(): value for name, value in answer.headers.items()}
        return answer.status, got, answer.read()


@pytest.fixture
def client(origin: OriginProcess) -> Iterator[Client]:
    made = Client(origin)
    yield made
    made.connection.close()


def summed(kind: str, data: bytes) -> str:
    function, width = SUMS[kind]
    return base64.b64encode(function(data).to_bytes(width, "big")).decode()


def texts(xml: bytes, name: str) -> list[str]:
    root = ElementTree.fromstring(xml)
    return [node.text or "" for node in root.iter() if node.tag.rpartition("}")[2] == name]


def chunked(data: bytes, trailer: str, *, step: int = 65_536) -> bytes:
    pieces = [data[at : at + step] for at in range(0, len(data), step)]
    framed = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return framed + b"0\r\n" + trailer.encode() + b"\r\n"


@pytest.mark.parametrize("kind", SUMS)
def test_a_checksum_in_a_header_is_compared_with_the_body(
    kind: str, client: Client, origin: OriginProcess
) -> None:
    sizes = [1, 15, 127, 128, 129, 1_023, 1_024, 1_025, len(DATA)]
    for size in sizes:
        body = DATA[:size]
        header = {f"x_amz_checksum_{kind}": summed(kind, body)}
        status, got, _ = client.ask("PUT", "/bucket/key", body, **header)
        assert (status, got[f"x-amz-checksum-{kind}"]) == (200, summed(kind, body)), size
        wrong = bytes([body[0] ^ 1]) + body[1:]
        status, _, answer = client.ask("PUT", "/bucket/key", wrong, **header)
        assert (status, texts(answer, "Code")) == (400, ["BadDigest"]), size
    counts = origin.counts()
    assert (counts["sum_good"], counts["sum_bad"]) == (len(sizes), len(sizes))
    assert counts["bytes_summed"] == counts["bytes_in"] == 2 * sum(sizes)


def test_the_check_can_be_switched_off(client: Client, origin: OriginProcess) -> None:
    origin.set(check=False)
    status, got, _ = client.ask("PUT", "/bucket/key", DATA, x_amz_checksum_crc32="AAAAAA==")
    assert (status, got["x-amz-checksum-crc32"]) == (200, "AAAAAA==")
    client.ask("PUT", "/bucket/key", DATA)
    counts = origin.counts()
    assert (counts["sum_skipped"], counts["sum_none"], counts["sum_bad"]) == (1, 1, 0)
    assert counts["bytes_in"] == 2 * len(DATA)


@pytest.mark.parametrize("nested", [False, True])
def test_aws_chunked_bodies_are_decoded_and_their_trailer_checked(
    nested: bool, client: Client, origin: OriginProcess
) -> None:
    """botocore sends aws-chunked inside of HTTP's chunks, other SDKs with Content-Length."""
    for trailer, status in ((summed("crc32", DATA), 200), ("AAAAAA==", 400)):
        body = chunked(DATA, f"x-amz-checksum-crc32:{trailer}\r\n")
        framing = {"Content_Length": str(len(body))}
        if nested:
            body = chunked(body, "", step=100_000)
            framing = {"Transfer_Encoding": "chunked"}
        got, _, _ = client.ask(
            "PUT",
            "/bucket/key",
            body,
            **framing,
            Content_Encoding="aws-chunked",
            x_amz_trailer="x-amz-checksum-crc32",
            x_amz_decoded_content_length=str(len(DATA)),
        )
        assert got == status
    counts = origin.counts()
    assert (counts["sum_good"], counts["sum_bad"]) == (1, 1)
    assert counts["bytes_in"] == 2 * len(DATA), "framing is not data"


def test_objects_say_their_size_and_hold_what_their_checksum_says(client: Client) -> None:
    size = 62 * 2**20 + 5  # more than the pattern behind it
    target = f"/bucket/s/{size}/1/big"
    status, got, body = client.ask("GET", target, x_amz_checksum_mode="ENABLED")
    assert (status, len(body)) == (200, size)
    assert got["x-amz-checksum-crc64nvme"] == summed("crc64nvme", body)
    status, head, nothing = client.ask("HEAD", target, x_amz_checksum_mode="ENABLED")
    same = ("content-length", "etag", "x-amz-checksum-crc64nvme")
    assert (status, nothing) == (200, b"")
    assert [head[name] for name in same] == [got[name] for name in same]
    other = client.ask("GET", "/bucket/s/65536/1/other")[2]
    assert other != client.ask("GET", "/bucket/s/65536/1/another")[2]


def test_ranges_are_those_that_were_asked_for(client: Client, origin: OriginProcess) -> None:
    size = 1_000_003
    target = f"/bucket/s/{size}/1/x"
    whole = client.ask("GET", target)[2]
    wanted = {
        "bytes=0-0": (0, 1),
        "bytes=500000-999999": (500_000, 500_000),
        "bytes=1000000-2000000": (1_000_000, 3),
        "bytes=999000-": (999_000, 1_003),
        "bytes=-17": (size - 17, 17),
    }
    for text, (first, length) in wanted.items():
        status, got, body = client.ask("GET", target, Range=text, x_amz_checksum_mode="ENABLED")
        assert (status, body) == (206, whole[first : first + length]), text
        assert got["content-range"] == f"bytes {first}-{first + length - 1}/{size}"
        assert "x-amz-checksum-crc64nvme" not in got, "it would be that of the whole object"
    assert client.ask("GET", target, Range=f"bytes={size}-")[0] == 416
    assert client.ask("GET", target, If_Match='"other"')[0] == 412
    assert client.ask("GET", "/bucket/nothing-here")[0] == 404
    moved = size + sum(length for _, length in wanted.values())
    assert origin.counts()["bytes_out"] == moved


def test_a_multipart_upload_is_checked_as_a_whole(client: Client, origin: OriginProcess) -> None:
    parts = [DATA[:100_000], DATA[100_000:200_000], DATA[200_000:]]
    right, wrong = summed("crc64nvme", DATA), summed("crc64nvme", DATA[1:])
    for declared, named, status in ((right, 3, 200), (wrong, 3, 400), (right, 2, 400)):
        created = client.ask("POST", "/bucket/key?uploads=")[2]
        (upload,) = texts(created, "UploadId")
        for number in (3, 1, 2):  # they come in any order
            part = parts[number - 1]
            header = {"x_amz_checksum_crc64nvme": summed("crc64nvme", part)}
            target = f"/bucket/key?partNumber={number}&uploadId={upload}"
            assert client.ask("PUT", target, part, **header)[0] == 200
        xml = "".join(f"<Part><PartNumber>{n + 1}</PartNumber></Part>" for n in range(named))
        got, _, answer = client.ask(
            "POST",
            f"/bucket/key?uploadId={upload}",
            f"<CompleteMultipartUpload>{xml}</CompleteMultipartUpload>".encode(),
            x_amz_checksum_crc64nvme=declared,
            x_amz_mp_object_size=str(len(DATA)),
        )
        assert got == status
        if status == 200:
            assert texts(answer, "ChecksumCRC64NVME") == [right]
    counts = origin.counts()
    assert (counts["whole_good"], counts["whole_bad"], counts["open_uploads"]) == (1, 1, 0)
    assert counts["problems"] == 1, "a part was not named"


def test_an_aborted_upload_takes_no_more_parts(client: Client, origin: OriginProcess) -> None:
    (upload,) = texts(client.ask("POST", "/bucket/key?uploads")[2], "UploadId")
    assert origin.counts()["open_uploads"] == 1
    assert client.ask("DELETE", f"/bucket/key?uploadId={upload}")[0] == 204
    assert client.ask("PUT", f"/bucket/key?partNumber=1&uploadId={upload}", b"x")[0] == 404
    assert client.ask("POST", f"/bucket/key?uploadId={upload}", b"<x/>")[0] == 404
    assert origin.counts()["open_uploads"] == 0


def test_a_listing_has_every_key_once_in_order(client: Client) -> None:
    found, token, pages = [], "", 0
    while True:
        target = "/bucket?list-type=2&prefix=s%2F64%2F2345%2F&encoding-type=url" + token
        page = client.ask("GET", target)[2]
        found += texts(page, "Key")
        pages += 1
        assert texts(page, "EncodingType") == ["url"]
        if texts(page, "IsTruncated") == ["false"]:
            break
        token = "&continuation-token=" + texts(page, "NextContinuationToken")[0]
    assert pages == 3
    assert found == [f"s/64/2345/{n // 1000:05d}/{n:07d}" for n in range(2_345)]
    assert found == sorted(found)
    (etag,) = set(texts(client.ask("GET", "/bucket?list-type=2&prefix=" + found[7])[2], "ETag"))
    assert client.ask("HEAD", f"/bucket/{found[7]}")[1]["etag"] == etag


def test_a_listing_by_folders_and_of_a_part_of_a_prefix(client: Client) -> None:
    page = client.ask("GET", "/bucket?list-type=2&delimiter=%2F&prefix=s/64/2345/")[2]
    assert texts(page, "Key") == []
    assert [name for name in texts(page, "Prefix") if name != "s/64/2345/"] == [
        f"s/64/2345/0000{n}/" for n in range(3)
    ]
    page = client.ask("GET", "/bucket?list-type=2&prefix=s/64/2345/00002/000200")[2]
    assert texts(page, "KeyCount") == ["10"]
    page = client.ask("GET", "/bucket?list-type=2&max-keys=7&prefix=s/64/2345/")[2]
    assert (texts(page, "KeyCount"), texts(page, "IsTruncated")) == (["7"], ["true"])


def test_sts_gives_keys_that_end_when_they_were_asked_to(
    client: Client, origin: OriginProcess
) -> None:
    form = b"Action=AssumeRole&DurationSeconds=900&RoleArn=x&RoleSessionName=y&Version=2011-06-15"
    status, _, answer = client.ask("POST", "/", form)
    (end,) = texts(answer, "Expiration")
    left = time.mktime(time.strptime(end, "%Y-%m-%dT%H:%M:%SZ")) - time.mktime(time.gmtime())
    assert status == 200
    assert 890 <= left <= 910
    key, _, token = origin.assume_role()
    assert key.startswith("ASIA")
    assert len(token) > 300


def test_expect_100_continue_is_answered_before_the_body(origin: OriginProcess) -> None:
    with socket.create_connection(("127.0.0.1", origin.port), timeout=10) as sock:
        sock.sendall(
            b"PUT /bucket/key HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
            b"Content-Length: 5\r\n\r\n"
        )
        assert sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(b"hello")
        assert sock.recv(1_000).startswith(b"HTTP/1.1 200 OK\r\n")


def test_a_head_may_come_byte_by_byte(origin: OriginProcess) -> None:
    with socket.create_connection(("127.0.0.1", origin.port), timeout=10) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in b"GET /bucket/s/3/1/x HTTP/1.1\r\nHost: x\r\n\r\n":
            sock.sendall(bytes([byte]))
        assert sock.recv(1_000).startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n\r\n",
        b"GET no-slash HTTP/1.1\r\n\r\n",
        b"PUT /b/k HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nnothing\r\n",
        b"GET /b/" + b"k" * 70_000,
    ],
)
def test_what_is_no_request_ends_the_connection_only(sent: bytes, origin: OriginProcess) -> None:
    with socket.create_connection(("127.0.0.1", origin.port), timeout=10) as sock:
        sock.sendall(sent)
        assert sock.recv(1_000) == b""
    assert origin.counts()["get"] == 0, "and it still answers"


def test_a_body_that_ends_too_soon_is_told_of(origin: OriginProcess) -> None:
    with socket.create_connection(("127.0.0.1", origin.port), timeout=10) as sock:
        sock.sendall(b"PUT /b/k HTTP/1.1\r\nContent-Length: 100\r\n\r\nshort")
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(100) == b""
    counts = origin.counts()
    assert (counts["problems"], counts["last_problem"]) == (1, "closed 95 bytes short")


def test_requests_share_a_connection(client: Client, origin: OriginProcess) -> None:
    before = origin.counts()["connections"]
    for _ in range(20):
        assert client.ask("GET", "/bucket/s/1000/1/x")[0] == 200
        assert client.ask("PUT", "/bucket/key", DATA)[0] == 200
    counts = origin.counts()  # over a connection of its own
    assert counts["connections"] - before == 2
    assert (counts["get"], counts["put_object"]) == (20, 20)


def test_https_moves_the_same_bytes(origin: OriginProcess, programs: Programs) -> None:
    if not programs.tls:
        pytest.skip("OpenSSL's headers are not installed")
    client = Client(origin, "https")
    plain = Client(origin)
    target = "/bucket/s/3000001/1/x"
    assert client.ask("GET", target)[2] == plain.ask("GET", target)[2]
    header = {"x_amz_checksum_crc64nvme": summed("crc64nvme", DATA * 20)}
    assert client.ask("PUT", "/bucket/key", DATA * 20, **header)[0] == 200
    counts = origin.counts()
    assert (counts["handshakes"], counts["sum_good"]) == (1, 1)
    client.connection.close()
    plain.connection.close()


@pytest.mark.parametrize("transport", ["http", "https"])
def test_a_round_trip_comes_before_each_answer_and_a_new_connection(
    transport: str, origin: OriginProcess, programs: Programs
) -> None:
    if transport == "https" and not programs.tls:
        pytest.skip("OpenSSL's headers are not installed")
    origin.set(rtt_ms=40)
    before = origin.counts()
    client = Client(origin, transport)
    started = time.monotonic()
    client.ask("GET", "/bucket/s/1000/1/x")
    first = time.monotonic() - started
    client.ask("PUT", "/bucket/key", DATA)
    second = time.monotonic() - started - first
    client.connection.close()
    trips = {"http": 2, "https": 3}[transport]  # TCP, TLS, the answer
    assert first >= 0.04 * trips
    assert second >= 0.04
    counts = origin.counts()
    ready = 0.04 * (trips - 1)
    in_use = (counts["in_use_us"] - before["in_use_us"]) / 1e6
    # A round trip is a timer's, to a millisecond; from before it was set up would be 40 ms more.
    assert 0.08 <= in_use <= first + second - ready + 0.02, "from when it was set up"
    names = ("user_seconds", "system_seconds")
    assert sum(counts[name] - before[name] for name in names) < first, "it sleeps meanwhile"


@pytest.mark.parametrize("transport", ["http", "https"])
def test_the_bandwidth_of_a_connection_is_limited_both_ways(
    transport: str, origin: OriginProcess, programs: Programs
) -> None:
    if transport == "https" and not programs.tls:
        pytest.skip("OpenSSL's headers are not installed")
    rate = 10_000_000
    origin.set(bandwidth=rate)
    client = Client(origin, transport)
    size = 2_000_000
    burst = 65_536 + rate * 0.02
    for method, target, body in (
        ("GET", f"/bucket/s/{size}/1/x", b""),
        ("PUT", "/bucket/key", bytes(size)),
    ):
        started = time.monotonic()
        assert client.ask(method, target, body)[0] == 200
        assert time.monotonic() - started >= (size - burst) / rate, method
    client.connection.close()


def test_it_ends_with_its_parent(programs: Programs, tmp_path: Path) -> None:
    with OriginProcess(programs, tmp_path, tls=False) as origin:
        port = origin.port
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)


def test_the_same_sources_are_built_once(programs: Programs) -> None:
    folder = programs.origin.parent
    before = programs.origin.stat().st_mtime_ns
    assert build(folder) == programs
    assert programs.origin.stat().st_mtime_ns == before


def test_without_a_compiler_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(CannotBuild, match="gcc libc6-dev"):
        build(tmp_path)
