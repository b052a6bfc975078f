"""A transcript as a file: JSON with everything in hexadecimal, and the authority's public key that its certificates were checked with.

Nothing in it is secret: public keys of one round, bitmaps by slot, signatures, and which kind of share was released; no share, no vector.
"""

import json
from typing import Any, cast

from contract import canonical
from contract.canonical import Json
from secagg.authority import IDENTITY_BYTES, SIGNATURE_BYTES, Certificate
from secagg.context import Context
from secagg.messages import AdvertiseKeys, ShareKind
from secagg.parameter_json import from_json
from secagg.transcript import SignedRelease, Transcript

FORMAT = "tutti-secagg-transcript-1"
_KEY_BYTES = 32


def encode(transcript: Transcript, *, authority: bytes) -> bytes:
    """A transcript and the public key of its `DeviceAuthority` as canonical JSON, which `decode` reads."""
    body: dict[str, Json] = {
        "format": FORMAT,
        "authority": authority.hex(),
        "context": canonical.plain(transcript.context),
        "advertised": [_advertised(keys) for keys in transcript.advertised],
        "sharers": transcript.sharers.hex(),
        "survivors": transcript.survivors.hex(),
        "consistency": [[slot, signature.hex()] for slot, signature in transcript.consistency],
        "releases": [
            [release.slot, [[peer, kind.value] for peer, kind in release.released], release.signature.hex()]
            for release in transcript.releases
        ],
    }
    return canonical.encode(body)


def decode(raw: bytes) -> tuple[Transcript, bytes]:
    """The transcript and the authority's key that `encode` wrote; whether they are sound is `audit`'s business.

    Raises:
      ValueError: for anything else.
    """
    try:
        body = json.loads(raw)
        if body["format"] != FORMAT:
            raise ValueError(f"no transcript: the format is {body['format']!r}")
        transcript = Transcript(
            context=_context(body["context"]),
            advertised=tuple(_read_advertised(keys) for keys in body["advertised"]),
            sharers=bytes.fromhex(body["sharers"]),
            survivors=bytes.fromhex(body["survivors"]),
            consistency=tuple((_whole(slot), _hex(signature, SIGNATURE_BYTES)) for slot, signature in body["consistency"]),
            releases=tuple(_release(*release) for release in body["releases"]),
        )
        return transcript, _hex(body["authority"], _KEY_BYTES)
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"no transcript: {type(error).__name__}") from None


def _advertised(keys: AdvertiseKeys) -> Json:
    certificate = keys.certificate
    return [
        certificate.identity.hex(), certificate.epoch, certificate.signature.hex(), keys.cipher_key.hex(), keys.mask_key.hex(),
        keys.signature.hex(),
    ]  # fmt: skip


def _read_advertised(row: Any) -> AdvertiseKeys:
    identity, epoch, certified, cipher_key, mask_key, signature = row
    certificate = Certificate(_hex(identity, IDENTITY_BYTES), _whole(epoch), _hex(certified, SIGNATURE_BYTES))
    return AdvertiseKeys(
        certificate=certificate,
        cipher_key=_hex(cipher_key, _KEY_BYTES),
        mask_key=_hex(mask_key, _KEY_BYTES),
        signature=_hex(signature, SIGNATURE_BYTES),
    )


def _release(slot: Any, released: Any, signature: Any) -> SignedRelease:
    pairs = cast(list[tuple[Any, Any]], released)
    return SignedRelease(
        slot=_whole(slot),
        released=tuple((_whole(peer), ShareKind(kind)) for peer, kind in pairs),
        signature=_hex(signature, SIGNATURE_BYTES),
    )


def _context(facts: Any) -> Context:
    return Context(
        round_id=_text(facts["round_id"]),
        model_digest=_text(facts["model_digest"]),
        config_digest=_text(facts["config_digest"]),
        ledger_checkpoint=_text(facts["ledger_checkpoint"]),
        epoch=_whole(facts["epoch"]),
        parameters=from_json(facts["parameters"]),
    )


def _hex(text: Any, size: int) -> bytes:
    found = bytes.fromhex(text)
    if len(found) != size:
        raise ValueError(f"{size} bytes are expected, not {len(found)}")
    return found


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"text is expected, not {value!r}")
    return value


def _whole(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**53:
        raise ValueError(f"a number in [0, 2^53) is expected, not {value!r}")
    return value
