"""No secret is ever printed: every command, however it ends, with the loudest log."""

from __future__ import annotations

import json
from collections.abc import Callable
from urllib.parse import quote, quote_plus
from xml.sax.saxutils import escape

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.redact import mask_external_id, mask_key_id, redact
from engine.testing.redshift import COPY_ROLE
from tests.cli.conftest import EXTERNAL_ID, Cli, Finished, Loader, leaks

SLOW = pytest.mark.slow
LOUD = ("-vvv",)
LOUD_JSON = ("-vvv", "--json")


def check_no_secret(cli: Cli, runs: list[Finished], *more: str) -> None:
    """None of what the gate has issued, nor the external id, nor ``more``, in any output."""
    secrets = cli.secrets()
    assert len(secrets) > 2, "the runs were to get sessions of a role"
    for done in runs:
        assert done.err or done.out
        assert leaks(done.text, [*secrets, EXTERNAL_ID, *more]) == [], done.text
        assert "Traceback" not in done.text
    # Journals, reports, whatever else a run leaves: no test puts a secret into a file.
    for path in cli.home.rglob("*"):
        if path.is_file():
            text = path.read_bytes().decode("latin-1")
            assert leaks(text, [*secrets, EXTERNAL_ID, *more]) == [], path


def _partner(cli: Cli, name: str = "partner", **settings: object) -> tuple[str, ...]:
    arn = cli.role_with(name, external_id=EXTERNAL_ID, **settings)
    return ("--role-arn", arn, "--external-id", EXTERNAL_ID)


@SLOW
def test_transfers_and_listings_show_no_secret(cli: Cli) -> None:
    role = _partner(cli)
    cli.file("f", b"12345")
    cli.aws.gate.put_object(cli.bucket, "there", b"bytes")
    runs = cli.run_each(
        ("cp", "f", cli.url("f"), *role, *LOUD),
        ("cp", cli.url("there"), "g", *role, *LOUD_JSON),
        ("ls", cli.url("there"), *role, *LOUD_JSON),
        ("credentials", "show", *role, *LOUD),
        ("credentials", "show", *role, *LOUD_JSON),
        ("rm", cli.url("gone"), *role, *LOUD),
    )
    assert [done.check(0).code for done in runs] == [0] * 6
    check_no_secret(cli, runs)
    assert "ASIA***" in runs[3].out and "ASIA***" in runs[4].out
    key_ids = list(cli.aws.gate.accounts._keys)
    assert [key for key in key_ids if any(key in done.text for done in runs)] == []


@SLOW
def test_failures_show_no_secret(cli: Cli) -> None:
    """Denied, not found, expired, redirected, an unknown key, a wrong external id, bad usage."""
    role = _partner(cli)
    nothing = _partner(cli, "nothing", allow=[])
    other = ("--role-arn", cli.role_with("other", external_id="Other"), *role[2:])
    cli.file("f")
    faults = cli.aws.gate.faults
    faults.add(kind="expired", action="PutObject", key="expired")
    faults.add(kind="redirect", key="moved", location="http://127.0.0.1:9/", times=None)
    cases: dict[tuple[object, ...], int] = {
        ("cp", "f", cli.url("f"), *nothing, *LOUD): 3,
        ("cp", cli.url("none"), "g", *role, *LOUD_JSON): 1,
        ("cp", "f", cli.url("moved"), *role, *LOUD): 1,
        ("cp", "f", cli.url("expired"), *role, *LOUD): 0,
        ("cp", "f", cli.url("f"), *other, *LOUD_JSON): 3,
        ("ls", "bucket", *role[:2], "--external-id", EXTERNAL_ID + " bad", *LOUD): 2,
    }
    runs = cli.run_each(*cases)
    assert [done.code for done in runs] == list(cases.values())
    unknown = {"AWS_ACCESS_KEY_ID": "AKIA" + "X" * 16}
    runs.append(cli.run("ls", cli.url(""), *role, *LOUD, env=unknown).check_error(3, "C102"))
    check_no_secret(cli, runs, cli.env["AWS_SECRET_ACCESS_KEY"])


@SLOW
def test_loads_show_no_secret(loader: Loader) -> None:
    """Loaded, refused rows, keys in the SQL of COPY, a wrong password, a password in the URL."""
    cli, redshift = loader.cli, loader.redshift
    role = _partner(cli)
    keys = ("--copy-keys-role", role[1])
    good = cli.file("good.csv", b"1,1.50,first\n")
    bad = cli.file("bad.csv", b"1,1.2.3,first\n")
    nothing = cli.role_with("nothing", allow=[], external_id=EXTERNAL_ID)
    by_role = ("--copy-role", COPY_ROLE, *role)
    by_keys = (*keys, *role)
    poor = ("--copy-keys-role", nothing, *role)
    loads = {
        ("load", *loader.line(good, *LOUD, authority=by_role)): 0,
        ("load", *loader.line(bad, *LOUD_JSON, authority=by_role)): 1,
        ("load", *loader.line(good, *LOUD, authority=by_keys)): 0,
        ("load", *loader.line(bad, *LOUD, authority=by_keys)): 1,
        ("load", *loader.line(good, *LOUD_JSON, authority=poor)): 1,
    }
    runs = cli.run_each(*loads)
    assert [done.code for done in runs] == list(loads.values())
    assert sorted(copy.auth for copy in redshift.copies) == ["keys"] * 3 + ["role"] * 2
    wrong = "Canary-Wrong-Password-9"
    cli.env.pop("S3ENGINE_DB_PASSWORD")
    urls = (f"{redshift.jdbc_url}&PWD={wrong}", f"jdbc:redshift://x:y/dev?PWD={wrong}")
    refused = cli.run_each(
        *(("load", *loader.line(good, "--database", url, *LOUD)) for url in urls)
    )
    assert [done.code for done in refused] == [3, 2]
    check_no_secret(cli, [*runs, *refused], redshift.password, wrong)


def test_short_values_are_masked_whole() -> None:
    assert mask_external_id("Canary-42") == "C***2"
    assert [mask_external_id(text) for text in ("ab", "abcd", "", None)] == [
        "***",
        "***",
        "none",
        "none",
    ]
    assert mask_key_id("AKIAIOSFODNN7EXAMPLE") == "AKIA***LE"
    assert mask_key_id("short") == "***"


# Marks at the beginning, in the middle and at the end of a secret: none of them may survive.
_MARKS = ("Cx7", "Mm5", "Qz9")


def _secrets(alphabet: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    part = st.text(alphabet, max_size=8)
    return st.tuples(part, part).map(lambda p: f"Cx7{p[0]}Mm5{p[1]}Qz9")


_ANY = _secrets(st.characters(codec="utf-8", exclude_characters="\0"))
_ONE_LINE = _secrets(st.characters(min_codepoint=32, max_codepoint=126))
_TOKEN = _secrets(st.sampled_from("abcXYZ019/+=_.-"))


def _literal(secret: str) -> str:
    return "'" + secret.replace("\\", "\\\\").replace("'", "''") + "'"


def _escaped(secret: str) -> str:
    return "'" + secret.replace("\\", "\\\\").replace("'", "\\'") + "'"


_SQL: tuple[Callable[[str], str], ...] = (
    lambda s: f"COPY t FROM 's3://b/k' SECRET_ACCESS_KEY {_literal(s)} CSV",
    lambda s: f"access_key_id 'AKIAIOSFODNN7EXAMPLE' SESSION_TOKEN\n  {_literal(s)}\nMANIFEST",
    lambda s: f"COPY t FROM 'x' CREDENTIALS 'aws_secret_access_key={_literal(s)[1:]} GZIP",
    lambda s: f"CREATE USER u PASSWORD {_literal(s)} CREATEDB",
    lambda s: f"ALTER USER u WITH PASSWORD {_escaped(s)}",
    lambda s: f"WITH CREDENTIALS AS {_literal('aws_access_key_id=AK;token=' + s)}",
    lambda s: f"COPY t MASTER_SYMMETRIC_KEY {_literal(s)[:-1]}",
)
_URLS: tuple[Callable[[str], str], ...] = (
    lambda s: f"jdbc:redshift://h:5439/dev?UID=u&PWD={quote_plus(s)}&ssl=true",
    lambda s: f"jdbc:redshift://h:5439/dev;UID=u;password={quote(s, safe='')};ssl=true",
    lambda s: f"GET https://b.s3.amazonaws.com/k?X-Amz-Signature={quote(s, safe='')}&x=1 200",
    lambda s: f"'https://b/k?x-amz-security-token={quote(s, safe='')}'",
    lambda s: f"https://b/k?X-Amz-Credential={quote(s, safe='')}",
    lambda s: f"https://b/k?AWSAccessKeyId=AK&Signature={quote(s, safe='')}&Expires=1",
    lambda s: f"Action=AssumeRole&ExternalId={quote_plus(s)}&Version=2011-06-15",
    lambda s: f"Action=AssumeRoleWithSAML&SAMLAssertion={quote_plus(s)}&Version=2011-06-15",
    lambda s: f"SerialNumber=arn&TokenCode={quote_plus(s)}&Version=2011-06-15",
    lambda s: f"through http://user:{quote(s, safe='')}@proxy.example:3128/",
    lambda s: f"postgresql://{quote(s, safe='')}:{quote(s, safe='')}@host/dev",
    lambda s: f"grant_type=x&code_verifier={quote_plus(s)}&client_secret={quote_plus(s)}",
)
_LINES: tuple[Callable[[str], str], ...] = (
    lambda s: f"Host: h\r\nAuthorization: AWS4-HMAC-SHA256 Credential=A, Signature={s}\r\nDate: d",
    lambda s: f"sent: authorization: Bearer {s}",
    lambda s: f"x-amz-security-token: {s}\nhost: h",
    lambda s: f"headers { ({'X-Amz-Security-Token': s, 'Host': 'h'})!r}",
    lambda s: f"headers {[(b'authorization', s.encode()), (b'host', b'h')]!r}",
    lambda s: json.dumps({"AccessKeyId": "AK", "SecretAccessKey": s, "Token": s}),
    lambda s: f"{ ({'secret_access_key': s, 'password': s})!r}",
    lambda s: f"params { ({'SSECustomerKey': s, 'CopySourceSSECustomerKey': s.encode()})!r}",
    lambda s: json.dumps({"clientSecret": s, "deviceCode": s, "refreshToken": s}),
    lambda s: f"Signer(access_key='AK', secret_key={s!r})",
    lambda s: f"<Credentials><SessionToken>{escape(s)}</SessionToken></Credentials>",
    lambda s: f"<Error><Code>ExpiredToken</Code><Token-0>{escape(s)}</Token-0></Error>",
)
_VARIABLES: tuple[Callable[[str], str], ...] = (
    lambda s: f"AWS_SECRET_ACCESS_KEY={s} s3engine",
    lambda s: f"aws_session_token = {s}\nregion = x",
    lambda s: f"password  =  {s}",
    lambda s: f"<SecretAccessKey>{s}",
)


def _survivors(text: str) -> list[str]:
    masked = redact(text)
    assert "***" in masked
    return [mark for mark in _MARKS if mark in masked]


@settings(max_examples=300)
@given(_ANY, st.sampled_from(_SQL))
def test_no_secret_survives_in_sql(secret: str, form: Callable[[str], str]) -> None:
    """Doubled quotes, backslashes, line ends, a literal that never closes."""
    assert _survivors(form(secret)) == []


@settings(max_examples=300)
@given(_ANY, st.sampled_from(_URLS))
def test_no_secret_survives_in_urls(secret: str, form: Callable[[str], str]) -> None:
    """JDBC properties, presigned requests, forms of STS."""
    assert _survivors(form(secret)) == []


@settings(max_examples=300)
@given(_ONE_LINE, st.sampled_from(_LINES))
def test_no_secret_survives_in_headers_and_documents(
    secret: str, form: Callable[[str], str]
) -> None:
    """As they are on the wire, and as Python and JSON print them."""
    assert _survivors(form(secret)) == []


@settings(max_examples=300)
@given(_TOKEN, st.sampled_from(_VARIABLES))
def test_no_secret_survives_in_variables(secret: str, form: Callable[[str], str]) -> None:
    """With one blank around the sign, with several, with none."""
    assert _survivors(form(secret)) == []


@pytest.mark.parametrize(
    "text",
    [
        "put object of s3://b/password/k failed with AccessDenied: no (status: 403)",
        "no user or no password for jdbc:redshift://h:5439/dev",
        "not allowed to assume arn:aws:iam::111122223333:role/x (external id: C***2)",
        "Check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and the clock of this machine",
        "the credentials that assume 'x' have expired",
        "the customer key of s3://bucket/a:b@c/d has 31 bytes, 32 are wanted",
        "https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html",
    ],
)
def test_what_holds_no_secret_is_left_alone(text: str) -> None:
    assert redact(text) == text
