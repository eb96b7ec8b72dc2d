"""``s3engine doctor`` with files: connections of Informatica, and trust policies."""

from __future__ import annotations

import json

import pytest

from engine.cli.commands.doctor import command
from engine.doctor import read_connection
from engine.types import S3Url
from tests.cli.conftest import EXTERNAL_ID, Cli, leaks
from tests.cli.test_doctor import (
    ALL_S3,
    BUCKET,
    HOST,
    OTHER,
    OWN,
    URL,
    USER,
    check_screen,
    one,
)

pytestmark = pytest.mark.slow


def test_a_connection_of_s3_v2_is_read_by_its_property_names(cli: Cli) -> None:
    cli.aws.gate.create_bucket(BUCKET, OWN)
    role = cli.aws.gate.add_role(
        OTHER, "partner", trust=[USER], external_id=EXTERNAL_ID, allow=ALL_S3
    )
    cli.file(
        "s3v2.json",
        json.dumps(
            {
                "Connection Name": "stage",
                "Access Key": cli.env["AWS_ACCESS_KEY_ID"],
                "Secret Key": cli.env["AWS_SECRET_ACCESS_KEY"],
                "IAM Role ARN": role,
                "External Id": EXTERNAL_ID,
                "Use EC2 Role to Assume Role": False,
                "Folder Path": f"{BUCKET}/in",
                "Region Name": "US East (N. Virginia)",
                "Temporary Credential Duration": "1800",
                "Master Symmetric Key": "c2VjcmV0",
                "Federated SSO IdP": "NONE",
                "Exteral Id": "",
            }
        ).encode(),
    )
    nothing = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_REGION": ""}
    done = cli.run("doctor", "--connection", "s3v2.json", env=nothing)
    check_screen("connection_s3v2", done)
    assert leaks(done.text, [cli.env["AWS_SECRET_ACCESS_KEY"], EXTERNAL_ID]) == []


def test_both_roles_of_a_connection_of_redshift_v2_are_examined(cli: Cli) -> None:
    cli.aws.gate.create_bucket(BUCKET, OWN)
    stage = cli.role_with("stage-writer")
    database = cli.role_with("database-login", trust=[])
    cli.file(
        "redshift.properties",
        "\n".join(
            (
                "# exported",
                "JDBC URL = jdbc:redshift://cluster.example:5439/dev?ssl=true",
                f"Access Key ID: {cli.env['AWS_ACCESS_KEY_ID']}",
                f"Secret Access Key: {cli.env['AWS_SECRET_ACCESS_KEY']}",
                f"IAM Role ARN: {stage}",
                f"Redshift IAM Role ARN: {database}",
                f"S3 Bucket Name = {BUCKET}",
                "Cluster Region = None",
            )
        ).encode(),
    )
    check_screen("connection_redshift", cli.run("doctor", "--connection", "redshift.properties"))


def test_a_connection_without_a_source_is_told_so(cli: Cli) -> None:
    """The role of the instance was said not to be meant, though the default chain ends there."""
    arn = cli.role_with("stage-writer")
    cli.aws.gate.add_role(OWN, "etl-host", trust=["ec2.amazonaws.com"], allow=ALL_S3)
    cli.aws.imds.role_arn = HOST
    cli.file("c", f"IAM Role ARN={arn}\nUse EC2 Role to Assume Role=false\n".encode())
    nothing = {
        "AWS_ACCESS_KEY_ID": "",
        "AWS_SECRET_ACCESS_KEY": "",
        "AWS_EC2_METADATA_SERVICE_ENDPOINT": cli.aws.imds.endpoint,
    }
    done = cli.run("doctor", "--connection", "c", env=nothing).check(3)
    said = " ".join(done.out.split())
    assert said.startswith("case not known no credentials to assume the role with FAILED source")
    assert "it holds no keys, and Use EC2 Role to Assume Role is false" in said
    assert "fix: Put Access Key and Secret Key in, or set Use EC2" in said and "***" not in said
    named = cli.run("doctor", "--connection", "c", "--source", "ec2", env=nothing)
    assert named.out.startswith("case 4  EC2 role -> role, same account\n")
    own = cli.run("doctor", "--connection", "c").check(0)
    assert own.out.startswith("case 1  IAM user -> role, same account\n")


def test_without_any_credentials_no_case_is_guessed(cli: Cli) -> None:
    line = one(cli)
    cli.aws.imds.enabled = False
    nothing = {
        "AWS_ACCESS_KEY_ID": "",
        "AWS_SECRET_ACCESS_KEY": "",
        "AWS_EC2_METADATA_SERVICE_ENDPOINT": cli.aws.imds.endpoint,
    }
    done = cli.run(*line, env=nothing).check(3)
    assert done.out.startswith("case not known  no credentials to assume the role with\n")


def test_the_example_of_the_help_is_a_connection_without_a_remark() -> None:
    _, _, example = (command.epilog or "").partition("A connection file (")
    lines = [line.strip() for line in example.splitlines()[1:] if line.strip()]
    assert len(lines) == 6
    found = read_connection("\n".join(lines))
    assert found.notes == () and found.keys is not None and found.url == S3Url("bucket", "prefix/")
    assert (found.external_id, found.region) == ("acme-42", "eu-west-1")


def test_contradictions_and_wrong_values_are_usage(cli: Cli) -> None:
    cli.file("picture", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\xff\xfe")
    cli.file("empty", b"")
    cli.file("both", b"Access Key=AKIAX\nSecret Key=s\nUse EC2 Role to Assume Role=true\n")
    cli.file("half", b"Access Key=AKIAX\n")
    cli.file("text", b"what is this\n")
    runs = cli.run_each(
        ("doctor", "--connection", "both"),
        ("doctor", "--connection", "half"),
        ("doctor", "--connection", "text"),
        ("doctor", "--connection", "none"),
        ("doctor", "bucket/prefix"),
        ("doctor", "--external-id", EXTERNAL_ID),
        ("doctor", "--connection", "picture"),
        ("doctor", "--connection", "empty"),
        ("doctor", "--lint-trust-policy", "picture"),
        ("doctor", URL, "--no-probe", "--read-only"),
    )
    for done in runs:
        done.check(2)
        assert done.out == ""
    assert "keys and Use EC2 Role" in runs[0].err
    assert "one of Access Key and Secret Key" in runs[1].err
    assert "line 1 of the connection file" in runs[2].err and "what is this" not in runs[2].err
    assert "picture is no text in UTF-8" in runs[6].err and "picture is no text" in runs[8].err
    assert "no properties found" in runs[7].err and "name = value" in runs[7].err
    assert "--no-probe and --read-only" in runs[9].err


TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"AWS": [f"arn:aws:iam::{OWN}:root", "arn:aws:iam::1234:user/etl"]},
            "Action": "sts:AssumeRole",
        },
        {"Effect": "Allow", "Principal": "*", "Action": ["sts:AssumeRole", "s3:GetObject"]},
        {
            "Effect": "Allow",
            "Principal": {"AWS": USER},
            "Action": "sts:AssumeRole",
            "Condition": {"StringLike": {"sts:ExternalId": "*"}},
        },
        {
            "Effect": "Allow",
            "Principal": {"Service": "vendor.amazonaws.com"},
            "Action": "sts:AssumeRole",
        },
        {"Effect": "Allow", "NotPrincipal": {"AWS": USER}, "Action": "sts:AssumeRole"},
    ],
}


def test_a_trust_policy_is_read_without_a_call(cli: Cli) -> None:
    cli.file("trust.json", json.dumps(TRUST).encode())
    role = ("--role-arn", f"arn:aws:iam::{OTHER}:role/partner", "--session-tag", "a=b")
    done = cli.run("doctor", "--lint-trust-policy", "trust.json", *role)
    check_screen("lint", done)
    rows = cli.run("doctor", "--lint-trust-policy", "trust.json", *role, "--json").events()
    assert [row["number"] for row in rows[:-1]] == list(range(1, len(rows)))
    assert (rows[-1]["event"], rows[-1]["exit_code"]) == ("linted", 1)
    cli.file("broken.json", b'{\n  "Version": "2012-10-17",\n  "Statement": [,]\n}\n')
    broken = cli.run("doctor", "--lint-trust-policy", "broken.json")
    assert broken.code == 1
    assert "  1. error    line 3 column 17: not JSON" in broken.out
    good = {
        **TRUST,
        "Statement": [
            {
                **TRUST["Statement"][2],  # type: ignore[dict-item]
                "Condition": {"StringEquals": {"sts:ExternalId": "acme-42"}},
            }
        ],
    }
    cli.file("good.json", json.dumps(good).encode())
    done = cli.run("doctor", "--lint-trust-policy", "good.json", *role[:2]).check(0)
    assert done.out == "good.json: 0 errors\n"
    sent = cli.run("doctor", "--lint-trust-policy", "good.json", "--external-id", EXTERNAL_ID)
    assert sent.code == 1 and EXTERNAL_ID not in sent.text and "acme-42" not in sent.text
    assert "wants another external id: a***2, not C***2" in sent.out
    cli.file("role.json", json.dumps({"Role": {"AssumeRolePolicyDocument": good}}).encode())
    role_json = cli.run("doctor", "--lint-trust-policy", "role.json", *role[:2]).check(0)
    assert role_json.out == "role.json: 0 errors\n"
    assert cli.aws.gate.log.entries() == []
