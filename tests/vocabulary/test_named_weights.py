"""Weights by their digest, under the version that they go by."""

import pytest

from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.named_weights import NamedWeights

SHA256 = "0123456789ab" + "c" * 52


def test_they_are_written_and_read_again():
    weights = NamedWeights("v1.20260111.1425", SHA256)
    assert str(weights) == f"v1.20260111.1425@{SHA256}"
    assert NamedWeights.of(str(weights)) == weights


def test_an_anchor_is_measured_under_its_digest_whatever_version_it_goes_by():
    assert {NamedWeights(version, SHA256).anchor_key for version in ("v1", "v2")} == {"anchor.0123456789ab"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("v1", "the SHA-256 of the weights of v1 is ''"),
        (f"v1@{SHA256.upper()}", "the SHA-256 of the weights of v1"),
        (f"../v1@{SHA256}", "model version '../v1' is not a slug"),
        (f"v1@{SHA256}@{SHA256}", "the SHA-256 of the weights of v1"),
    ],
)
def test_what_names_no_weights_is_refused(text, said):
    with pytest.raises(BadInput, match=said):
        NamedWeights.of(text)
