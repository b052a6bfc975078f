"""What a lying server writes into a plan is a `ValueError` when the context is made, never a crash in the middle of a round."""

import copy
import json
import pickle
from dataclasses import replace
from typing import Any

import pytest

from contract.entropy import system_entropy
from secagg import LOWEST_FLOORS, Client, Context, DeviceAuthority, parameter_json, wire

FACTS = {"round_id": "run/0", "model_digest": "m", "config_digest": "c"}


def facts_of(context: Context) -> dict[str, Any]:
    parameters = json.loads(json.dumps(parameter_json.to_json(context.parameters)))
    return {"ledger_checkpoint": "00", "epoch": 1, "parameters": parameters}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("roster_size", 9.0),
        ("threshold", 6.5),
        ("degree", 8.0),
        ("minimum_survivors", 6.5),
        ("minimum_survivors", True),
        ("minimum_roster", "7"),
        ("corrupt_fraction", "nan"),
        ("drop_fraction", 1 << 2000),
    ],
)
def test_parameters_that_are_no_integers_are_refused(name: str, value: object, context: Context) -> None:
    facts = facts_of(context)
    facts["parameters"][name] = value
    with pytest.raises(ValueError, match=r"integer|parameters|must lie"):
        parameter_json.context_of(facts, **FACTS)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("length", 11.0),
        ("length", 1 << 60),
        ("largest", 1 << 53),
        ("lane_bits", 16.0),
        ("name", "\ud800"),
        ("name", 5),
        ("name", []),
    ],
)
def test_vectors_that_have_no_digest_are_refused(name: str, value: object, context: Context) -> None:
    facts = facts_of(context)
    facts["parameters"]["vectors"][0][name] = value
    with pytest.raises(ValueError, match=r"integer|parameters|must lie|surrogates"):
        parameter_json.context_of(facts, **FACTS)


@pytest.mark.parametrize("epoch", [-1, 1 << 53, 1 << 70, 1.0, float("inf"), "1", None])
def test_epochs_that_no_certificate_can_have_are_refused(epoch: object, context: Context) -> None:
    with pytest.raises(ValueError, match=r"epoch|integer"):
        parameter_json.context_of({**facts_of(context), "epoch": epoch}, **FACTS)


def test_contexts_without_a_digest_cannot_be_made(context: Context) -> None:
    with pytest.raises(ValueError, match="surrogates"):
        replace(context, round_id="\udfff")
    raw = wire.pb.Context.FromString(wire.write_context(context))
    raw.epoch = 1 << 60
    assert wire.read_context(raw.SerializeToString()) is None


@pytest.mark.parametrize("save", [pickle.dumps, copy.copy, copy.deepcopy])
def test_client_cannot_be_saved_or_copied(save: Any, context: Context) -> None:
    authority = DeviceAuthority(bytes(32))
    identity = authority.enrol(context.epoch, system_entropy)
    client = Client(
        context=context, authority=authority.public, identity=identity, floors=LOWEST_FLOORS, entropy=system_entropy
    )
    client.advertise_keys()
    with pytest.raises(TypeError, match="cannot be copied or saved"):
        save(client)
