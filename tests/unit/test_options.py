"""ObjectOptions: what is refused when they are made, and what they become."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from engine.errors import UsageError
from engine.options import PLAIN, CustomerKey, Encryption, ObjectOptions

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"encryption": Encryption(), "customer_key": CustomerKey(bytes(32))}, "not both"),
    ({"if_none_match": True, "if_match": "abc"}, "not both"),
    ({"expected_bucket_owner": "12345"}, "not an account id"),
    ({"tags": {str(n): "" for n in range(11)}}, "11 tags, S3 allows 10"),
    ({"tags": {"": "x"}}, "not a tag"),
    ({"tags": {"x": "y" * 257}}, "not a tag"),
    ({"metadata": {"a b": ""}}, "not a name of metadata"),
    ({"metadata": {"a": "ü"}}, "metadata a holds characters"),
    ({"metadata": {"a": "x\r\nx-amz-acl: public-read"}}, "metadata a holds characters"),
    ({"metadata": {"a": "x" * 2048}}, "2049 bytes of metadata"),
    ({"metadata": {"a": "", "A": ""}}, "differ in case only"),
    ({"content_type": "text/plain\n"}, "content-type holds characters"),
    ({"if_match": "a\nb"}, "if-match holds characters"),
]


@pytest.mark.parametrize(("given", "text"), WRONG)
def test_what_s3_would_refuse_is_refused_at_once(given: dict[str, Any], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        ObjectOptions(**given)


def test_encryption_is_checked() -> None:
    for given in (
        {"algorithm": "AES128"},
        {"algorithm": "AES256", "key_id": "x"},
        {"algorithm": "AES256", "bucket_key": True},
        {"algorithm": "aws:kms", "key_id": "ü"},
    ):
        with pytest.raises(UsageError):
            Encryption(**given)
    for key in (b"", bytes(31), bytes(33)):
        with pytest.raises(UsageError, match="a customer key has"):
            CustomerKey(key)


def test_nothing_asked_for_is_nothing_said() -> None:
    for options in (PLAIN, ObjectOptions()):
        assert options.for_put() == options.for_create() == options.for_part() == {}
        assert options.for_complete() == options.for_bucket() == {}


def test_each_request_gets_its_own_fields() -> None:
    """What an object is stored with goes at its beginning, the condition at its end."""
    options = ObjectOptions(
        content_type="text/csv",
        if_match="abc",
        customer_key=CustomerKey(bytes(32)),
        requester_pays=True,
    )
    key = {
        "x-amz-server-side-encryption-customer-algorithm",
        "x-amz-server-side-encryption-customer-key",
        "x-amz-server-side-encryption-customer-key-md5",
    }
    payer = {"x-amz-request-payer"}
    assert options.for_put().keys() == {"content-type", "if-match"} | key | payer
    assert options.for_create().keys() == {"content-type"} | key | payer
    assert options.for_part().keys() == key | payer
    assert options.for_complete().keys() == {"if-match"} | key | payer
    assert options.for_bucket().keys() == payer
    assert options.for_put()["if-match"] == '"abc"'


def test_a_calls_options_go_over_the_engines() -> None:
    key = CustomerKey(bytes(32))
    engine = ObjectOptions(
        encryption=Encryption("aws:kms"), if_none_match=True, metadata={"a": "1", "b": "1"},
        requester_pays=True, storage_class="STANDARD_IA",
    )  # fmt: skip
    call = ObjectOptions(customer_key=key, if_match="x", metadata={"b": "2"}, tags={"t": ""})
    both = call.over(engine)
    assert both.customer_key is key and both.encryption is None
    assert both.if_match == "x" and not both.if_none_match
    assert both.metadata == {"a": "1", "b": "2"} and both.tags == {"t": ""}
    assert both.requester_pays and both.storage_class == "STANDARD_IA"
    assert call.over(PLAIN) is call
    assert ObjectOptions().over(engine) == engine


def test_a_customers_key_is_in_no_text_and_no_pickle() -> None:
    options = ObjectOptions(customer_key=CustomerKey(b"0123456789abcdef" * 2))
    assert "0123" not in repr(options) and "0123" not in str(options)
    for value in (options, options.customer_key):
        with pytest.raises(TypeError, match="not pickled"):
            pickle.dumps(value)
    assert copy.deepcopy(options) == options
