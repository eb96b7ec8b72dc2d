"""Connections of Informatica, by the names of their properties."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.doctor import read_connection, read_text
from engine.errors import UsageError
from engine.redact import redact
from engine.types import S3Url

ROLE = "arn:aws:iam::111122223333:role/loader"
KEYS = {"Access Key": "AKIAIOSFODNN7EXAMPLE", "Secret Key": "wJalr=XUtn:FEMI/K7MDENG"}


def lines(properties: dict[str, str], sign: str = " = ") -> str:
    return "".join(f"{name}{sign}{value}\n" for name, value in properties.items())


@pytest.mark.parametrize("sign", [" = ", "=", ": "])
def test_keys_role_and_external_id_are_read_from_lines(sign: str) -> None:
    """A secret may hold = and :, the name of a property does not."""
    text = lines({**KEYS, "IAM Role ARN": ROLE, "External Id": "acme-42"}, sign)
    found = read_connection("# comment\n! another\n\n" + text)
    assert found.keys is not None
    assert (found.keys.access_key_id, found.keys.secret_access_key) == tuple(KEYS.values())
    assert (found.role_arn, found.external_id, found.source) == (ROLE, "acme-42", "default")
    assert "wJalr" not in repr(found) and "acme-42" not in repr(found)
    assert found.notes == ()


@pytest.mark.parametrize(
    "name", ["IAM Role ARN", "iamRoleArn", "iam_role_arn", "IAM-ROLE-ARN", "S3 IAM Role ARN"]
)
def test_names_have_neither_case_nor_signs(name: str) -> None:
    assert read_connection(json.dumps({name: ROLE})).role_arn == ROLE


def test_an_export_may_nest_its_properties() -> None:
    text = json.dumps(
        {
            "Connection Name": "stage",
            "connectionProperties": {
                "IAM Role ARN": ROLE,
                "Use EC2 Role to Assume Role": True,
                "Temporary Credential Duration": 3600,
                "External Id": None,
            },
        }
    )
    found = read_connection(text)
    assert (found.ec2, found.source, found.duration) == (True, "ec2", 3600)
    assert found.external_id == "" and found.notes == ()


@pytest.mark.parametrize(
    ("folder", "url"),
    [
        ("bucket", S3Url("bucket", "")),
        ("bucket/in", S3Url("bucket", "in/")),
        ("/bucket/in/", S3Url("bucket", "in/")),
        ("s3://bucket/in", S3Url("bucket", "in")),
    ],
)
def test_a_folder_path_is_a_bucket_and_a_prefix(folder: str, url: S3Url) -> None:
    assert read_connection(lines({"Folder Path": folder})).url == url


def test_a_folder_path_wins_over_a_bucket_name() -> None:
    both = {"S3 Bucket Name": "one", "Folder Path": "two/in"}
    assert read_connection(lines(both)).url == S3Url("two", "in/")
    assert read_connection(lines(dict(reversed(both.items())))).url == S3Url("two", "in/")
    assert read_connection(lines({"S3 Bucket Name": "one"})).url == S3Url("one", "")


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("US East (N. Virginia)", "us-east-1"),
        ("EU (Frankfurt)", "eu-central-1"),
        ("EU(Frankfurt)", "eu-central-1"),
        ("Asia Pacific (Osaka)", "ap-northeast-3"),
        ("eu-west-1", "eu-west-1"),
        ("us-gov-west-1", "us-gov-west-1"),
        ("None", ""),
    ],
)
def test_a_region_is_a_name_or_a_code(name: str, code: str) -> None:
    assert read_connection(lines({"Region Name": name})).region == code


def test_a_profile_and_its_file_are_a_source() -> None:
    found = read_connection(
        lines({"Profile Name": "etl", "Credential Profile File Path": "creds.ini"})
    )
    assert (found.source, found.profile, found.profile_file) == ("profile", "etl", "creds.ini")


@pytest.mark.parametrize(
    ("properties", "words"),
    [
        ({"Access Key": "AKIA"}, "one of Access Key and Secret Key"),
        ({**KEYS, "Use EC2 Role to Assume Role": "true", "IAM Role ARN": ROLE}, "keys and Use EC2"),
        ({"Use EC2 Role to Assume Role": "true"}, "without an IAM Role ARN"),
        ({"Region Name": "EU (Frankfort)"}, "not a region"),
        ({"Temporary Credential Duration": "1 h"}, "not in seconds"),
    ],
)
def test_contradictions_are_refused(properties: dict[str, str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        read_connection(lines(properties))


def test_what_is_done_otherwise_is_told_without_its_value() -> None:
    found = read_connection(
        lines(
            {"Master Symmetric Key": "c2VjcmV0", "Federated SSO IdP": "ADFS 3.0", "Axcess Key": "x"}
        )
    )
    texts = [note.text for note in found.notes]
    assert len(texts) == 3 and "c2VjcmV0" not in str(found.notes)
    assert texts[2] == "not a property that is known: 'Axcess Key'"
    assert "SSE-KMS" in texts[0] and "--source" in texts[1]
    assert found.notes[2].fix == ("Did you mean Access Key?",)


@pytest.mark.parametrize("text", ["{", "{]", "half a secret\n"])
def test_what_is_no_connection_is_usage_and_is_not_shown(text: str) -> None:
    with pytest.raises(UsageError, match="line 1") as caught:
        read_connection(text)
    assert "half a secret" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["export AWS_SECRET_ACCESS_KEY", "MY_SECRET_ACCESS_KEY", "master_symmetric_key"]
)
def test_a_name_like_a_secret_s_is_shown_whole(name: str) -> None:
    """The mask takes what follows such a name for the secret: nothing follows."""
    (note,) = read_connection(f"{name}=x\n").notes
    assert repr(name) in note.text and redact(note.text) == note.text


def test_a_variable_of_the_environment_is_told_from_a_typing_error() -> None:
    (note,) = read_connection("export AWS_SECRET_ACCESS_KEY=x\n").notes
    assert "variable of the environment" in note.fix[0]


ENVELOPE = {"id": "01", "orgId": "x", "updatedBy": "me", "name": "stage", "federations": [1, 2]}


def test_what_an_api_says_about_a_connection_is_no_typing_error() -> None:
    text = json.dumps([{**ENVELOPE, "IAM Role ANR": "", "connParams": {"IAM Role ARN": ROLE}}])
    found = read_connection(text)
    assert found.role_arn == ROLE
    assert [note.fix for note in found.notes] == [("Did you mean IAM Role ARN?",)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no properties found"),
        ("# a comment only\n\n", "no properties found"),
        ("{}", "no properties found"),
        ("[]", "not the JSON of one connection"),
        ('[{"Profile Name": "a"}, {"Profile Name": "b"}]', "not the JSON of one connection"),
        (json.dumps({"a": {"connParams": {"IAM Role ARN": ROLE}}}), "nested more than one level"),
        ("{" + '"a":{' * 100_000, "nested more than one|not JSON"),
        ("IAM Role ARN\n", "line 1"),
    ],
)
def test_what_cannot_be_read_is_told_with_the_form_that_can(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        read_connection(text)
    assert "name = value" in caught.value.fix and "JSON" in caught.value.fix


@pytest.mark.parametrize("data", [b"\x89PNG\r\n\x1a\n\0\0", b"Access Key\0= x", b"\xff\xfea\0"])
def test_what_is_no_text_is_told_so(data: bytes) -> None:
    with pytest.raises(UsageError, match=r"^x\.bin is no text in UTF-8"):
        read_text(data, "x.bin")
    assert read_text(b"\xef\xbb\xbfIAM", "x") == "IAM"


@pytest.mark.parametrize(
    ("properties", "lacks"),
    [
        ({"Use EC2 Role to Assume Role": "false"}, True),
        ({}, False),
        ({"Use EC2 Role to Assume Role": "true"}, False),
        ({"Use EC2 Role to Assume Role": "false", **KEYS}, False),
        ({"Use EC2 Role to Assume Role": "false", "Profile Name": "etl"}, False),
    ],
)
def test_a_role_without_anything_to_assume_it_with_lacks_a_source(
    properties: dict[str, str], lacks: bool
) -> None:
    assert read_connection(lines({"IAM Role ARN": ROLE, **properties})).lacks_source is lacks


@given(st.text(max_size=200))
def test_no_file_breaks_it(text: str) -> None:
    try:
        read_connection(text)
    except UsageError as error:
        assert error.headline
