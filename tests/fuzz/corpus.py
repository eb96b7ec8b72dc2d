"""Answers as S3, STS and their kin write them: what is changed into what they do not write."""

from __future__ import annotations

_XMLNS = b'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
_XML = b'<?xml version="1.0" encoding="UTF-8"?>\n'

_ROW = (
    b"<Contents><Key>p/a%2Bb</Key><LastModified>2026-01-02T03:04:05.000Z</LastModified>"
    b"<ETag>&quot;9b2cf535f27731c974343645a3985328&quot;</ETag>"
    b"<ChecksumAlgorithm>CRC64NVME</ChecksumAlgorithm><ChecksumType>FULL_OBJECT</ChecksumType>"
    b"<Size>12</Size><Owner><ID>75aa57f0</ID><DisplayName>d</DisplayName></Owner>"
    b"<StorageClass>STANDARD</StorageClass></Contents>"
)
_PAGE = (
    b"<ListBucketResult %s><Name>bucket</Name><Prefix>p/</Prefix><KeyCount>%d</KeyCount>"
    b"<MaxKeys>1000</MaxKeys><EncodingType>url</EncodingType><IsTruncated>%s</IsTruncated>%s%s"
    b"</ListBucketResult>"
)
LISTINGS = (
    _XML + _PAGE % (_XMLNS, 1, b"false", b"", _ROW),
    _XML
    + _PAGE
    % (
        _XMLNS,
        3,
        b"true",
        b"<NextContinuationToken>1ueGcxLPRx1Tr/XYExHnhbYLgveDs2J/wm36Hy4v</NextContinuationToken>",
        _ROW + _ROW.replace(b"a%2Bb", b"b+c") + _ROW.replace(b"a%2Bb", b"c").replace(b"12", b"0"),
    ),
    _PAGE % (b"", 0, b"false", b"", b""),
)
DOCUMENTS = (
    *LISTINGS,
    _XML + b"<ListPartsResult " + _XMLNS + b"><Bucket>bucket</Bucket><Key>k</Key><UploadId>u"
    b"</UploadId><PartNumberMarker>0</PartNumberMarker><NextPartNumberMarker>2"
    b"</NextPartNumberMarker><MaxParts>1000</MaxParts><IsTruncated>true</IsTruncated>"
    b"<ChecksumAlgorithm>CRC64NVME</ChecksumAlgorithm><ChecksumType>FULL_OBJECT</ChecksumType>"
    b"<Part><PartNumber>1</PartNumber><LastModified>2026-01-02T03:04:05.000Z</LastModified>"
    b"<ETag>&quot;a&quot;</ETag><Size>8388608</Size><ChecksumCRC64NVME>AAAAAAAAAAA="
    b"</ChecksumCRC64NVME></Part><Part><PartNumber>2</PartNumber><ETag>&quot;b&quot;</ETag>"
    b"<Size>7</Size></Part></ListPartsResult>",
    _XML + b"<ListMultipartUploadsResult " + _XMLNS + b"><Bucket>bucket</Bucket><EncodingType>url"
    b"</EncodingType><NextKeyMarker>p%2Fk</NextKeyMarker><NextUploadIdMarker>u2"
    b"</NextUploadIdMarker><IsTruncated>true</IsTruncated><Upload><Key>p/k</Key><UploadId>u1"
    b"</UploadId><Initiator><ID>arn:aws:sts::1:assumed-role/r/s3engine-1</ID></Initiator>"
    b"<Initiated>2026-01-02T03:04:05.000Z</Initiated></Upload></ListMultipartUploadsResult>",
    b"<InitiateMultipartUploadResult " + _XMLNS + b"><Bucket>bucket</Bucket><Key>k</Key><UploadId>"
    b"VXBsb2FkSWQ-</UploadId></InitiateMultipartUploadResult>",
    b"  \n\n<CompleteMultipartUploadResult " + _XMLNS + b"><Location>http://x/k</Location><Bucket>"
    b"bucket</Bucket><Key>k</Key><ETag>&quot;3858f62230ac3c915f300c664312c11f-9&quot;</ETag>"
    b"<ChecksumCRC64NVME>AAAAAAAAAAA=</ChecksumCRC64NVME><ChecksumType>FULL_OBJECT</ChecksumType>"
    b"</CompleteMultipartUploadResult>",
    _XML + b"<CopyObjectResult " + _XMLNS + b"><LastModified>2026-01-02T03:04:05.000Z"
    b"</LastModified><ETag>&quot;e&quot;</ETag></CopyObjectResult>",
    b"<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>",
    _XML + b"<DeleteResult " + _XMLNS + b"><Error><Key>k</Key><Code>AccessDenied</Code><Message>no"
    b"</Message></Error></DeleteResult>",
)
ERRORS = (
    _XML + b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message>"
    b"<RequestId>4442587FB7D0A2F9</RequestId><HostId>h</HostId></Error>",
    _XML + b"<Error><Code>AuthorizationHeaderMalformed</Code><Message>The region 'a' is wrong"
    b"</Message><Region>eu-west-1</Region><RequestId>R</RequestId></Error>",
    b"<Error><Code>ExpiredToken</Code><Message>m</Message><Token-0>SECRETSECRET</Token-0></Error>",
    b'<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type>'
    b"<Code>AccessDenied</Code><Message>not authorized</Message></Error><RequestId>R2</RequestId>"
    b"</ErrorResponse>",
    b"<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>",
)
ISSUED = (
    b'<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult>'
    b"<AssumedRoleUser><Arn>arn:aws:sts::1:assumed-role/r/s</Arn></AssumedRoleUser><Credentials>"
    b"<AccessKeyId>ASIAIOSFODNN7EXAMPLE</AccessKeyId><SecretAccessKey>wJalrXUtnFEMI/K7MDENG"
    b"</SecretAccessKey><SessionToken>FwoGZXIvYXdzE==</SessionToken><Expiration>"
    b"2026-01-02T03:04:05Z</Expiration></Credentials></AssumeRoleResult><ResponseMetadata>"
    b"<RequestId>x</RequestId></ResponseMetadata></AssumeRoleResponse>",
)
KEYS_AS_JSON = (
    b'{"Version":1,"AccessKeyId":"AKIA","SecretAccessKey":"s","SessionToken":"t",'
    b'"Expiration":"2026-01-02T03:04:05Z"}',
    b'{"Code":"Success","LastUpdated":"2026-01-02T03:04:05Z","Type":"AWS-HMAC","AccessKeyId":"A",'
    b'"SecretAccessKey":"s","Token":"t","Expiration":"2026-01-02T09:04:05+0000"}',
    b'{"code":"NotReady","message":"later"}',
    b'{"Version":1,"Other":' + b"[" * 2_000,
)
_DATE = b"Date: Tue, 24 Nov 2026 12:00:00 GMT\r\nx-amz-request-id: 4442587FB7D0A2F9\r\n"
HEADS = (
    b"HTTP/1.1 200 OK\r\n" + _DATE + b'ETag: "e"\r\nContent-Length: 5\r\n'
    b"x-amz-checksum-crc64nvme: AAAAAAAAAAA=\r\nx-amz-checksum-type: FULL_OBJECT\r\n"
    b"Last-Modified: Tue, 24 Nov 2026 12:00:00 GMT\r\nx-amz-meta-a: b\r\n\r\nhello",
    b"HTTP/1.1 206 Partial Content\r\n" + _DATE + b'ETag: "e"\r\nContent-Range: bytes 3-7/9\r\n'
    b"Content-Length: 5\r\nx-amz-mp-parts-count: 3\r\n\r\nhello",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n" + _DATE + b'ETag: "e"\r\n'
    b"Content-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n" + _DATE + b"Transfer-Encoding: chunked\r\n\r\n"
    b'5;a="b"\r\nhello\r\n3\r\nabc\r\n0\r\nTrailer: x\r\n\r\n',
    b"HTTP/1.1 301 Moved\r\n" + _DATE + b"Location: https://bucket.s3.eu-west-1.amazonaws.com/k\r\n"
    b"x-amz-bucket-region: eu-west-1\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 503 Slow Down\r\n" + _DATE + b"Retry-After: 4\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(ERRORS[0]), ERRORS[0]),
    b"HTTP/1.0 200 OK\r\nServer: x\r\n\r\nuntil the end",
    b"HTTP/1.1 204 No Content\r\n" + _DATE + b"\r\n",
)
NAMES = (
    b"s3://bucket/dir/a key", b"s3://my.bucket.name/a/../../etc/passwd", b"s3://b-1/",
    b"s3://bucket//abs//x/./y/", "s3://bucket/\u00fc/\U0001f600/\u202e".encode(), b"s3://bucket",
    b"s3://bucket/" + b"n" * 300, b"https://store.example:9000/base/", b"http://[::1]:80", b"a\\b",
    b"http://user:pw@host/x?y#z", b"s3://arn:aws:s3:eu-west-1:1:accesspoint/x", b"C:\\x", b"CON",
    b"/abs", b"../up", b"a/b/c", b"dir/", b"?a=b#c&d;e", b"a+b %41 ~", b"\x01\x7f",
)  # fmt: skip
