"""`tf.train.Example` messages without TensorFlow: named lists of bytes, floats or whole numbers.

The wire format is protobuf's (tensorflow/core/example/example.proto and feature.proto): Example.features = 1, Features.feature = 1 (a map:
entries with key = 1, value = 2), Feature.bytes_list = 1, float_list = 2, int64_list = 3, and in each list value = 1.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, TypeAlias

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

Feature: TypeAlias = Sequence[str] | Sequence[int] | Sequence[float]
_FIELD = descriptor_pb2.FieldDescriptorProto
_LISTS = (
    ("bytes_list", "BytesList", _FIELD.TYPE_BYTES),
    ("float_list", "FloatList", _FIELD.TYPE_FLOAT),
    ("int64_list", "Int64List", _FIELD.TYPE_INT64),
)


def encode(features: Mapping[str, Feature]) -> bytes:
    """The message that holds `features`; text becomes UTF-8.

    >>> decode(encode({"text": ["hi"], "x": [0.5, 2.0], "y": [3]}))
    {'text': ['hi'], 'x': [0.5, 2.0], 'y': [3]}
    """
    example = _message("Example")()
    for name in sorted(features):
        values = features[name]
        entry = example.features.feature.add(key=name)
        if any(isinstance(value, str) for value in values):
            entry.value.bytes_list.value.extend(str(value).encode() for value in values)
        elif any(isinstance(value, float) for value in values):
            entry.value.float_list.value.extend(values)
        else:
            entry.value.int64_list.value.extend(values)
    return example.SerializeToString(deterministic=True)


def decode(content: bytes) -> dict[str, Feature]:
    """The features of a message, by name; a float is the shortest decimal that is that float32.

    Raises:
      ValueError: if `content` is no such message, or its bytes are no UTF-8.
    """
    example = _message("Example")()
    try:
        example.ParseFromString(content)
    except DecodeError as error:
        raise ValueError(f"is no tf.train.Example: {error}") from None
    found: dict[str, Feature] = {}
    for entry in example.features.feature:
        if entry.value.bytes_list.value:
            found[entry.key] = [value.decode() for value in entry.value.bytes_list.value]
        elif entry.value.float_list.value:
            found[entry.key] = [float(str(np.float32(value))) for value in entry.value.float_list.value]
        else:
            found[entry.key] = [int(value) for value in entry.value.int64_list.value]
    return found


@cache
def _message(name: str) -> Any:
    pool = descriptor_pool.DescriptorPool()
    pool.Add(_file())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"tutti.example.{name}"))


def _file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name="tutti/example.proto", package="tutti.example", syntax="proto3")
    for _, name, kind in _LISTS:
        message = file.message_type.add(name=name)
        message.field.add(name="value", number=1, type=kind, label=_FIELD.LABEL_REPEATED)
    feature = file.message_type.add(name="Feature")
    for number, (field, name, _) in enumerate(_LISTS, 1):
        feature.field.add(
            name=field, number=number, type=_FIELD.TYPE_MESSAGE, label=_FIELD.LABEL_OPTIONAL, type_name=f".tutti.example.{name}"
        )
    entry = file.message_type.add(name="Entry")
    entry.field.add(name="key", number=1, type=_FIELD.TYPE_STRING, label=_FIELD.LABEL_OPTIONAL)
    entry.field.add(
        name="value", number=2, type=_FIELD.TYPE_MESSAGE, label=_FIELD.LABEL_OPTIONAL, type_name=".tutti.example.Feature"
    )
    for name, field, inner, label in (
        ("Features", "feature", "Entry", _FIELD.LABEL_REPEATED),
        ("Example", "features", "Features", _FIELD.LABEL_OPTIONAL),
    ):
        message = file.message_type.add(name=name)
        message.field.add(name=field, number=1, type=_FIELD.TYPE_MESSAGE, label=label, type_name=f".tutti.example.{inner}")
    return file
