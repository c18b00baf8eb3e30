"""GGUF against the Python package gguf: dequantisation bit for bit, and files that it reads
back."""

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type
from gguf import GGUFValueType

SUPPORTED = [Type.F32, Type.F16, Type.BF16, Type.Q4_0, Type.Q4_1, Type.Q8_0]


def dequantized(run, path, name):
    result = run("parity-gguf", "dequantize", path, name)
    assert result.returncode == 0, result.stderr.decode()
    return np.frombuffer(result.stdout, dtype=np.uint32)


def bits(values):
    return np.ascontiguousarray(values, dtype=np.float32).reshape(-1).view(np.uint32)


def assert_same_bits(actual, expected, kind):
    if kind == Type.Q4_1:
        # scale * q + minimum: of two NaNs a sum returns either, by the order in which the compiler
        # puts its operands. All else must agree, which values are NaN included.
        actual, expected = (np.where(np.isnan(x.view(np.float32)), np.uint32(0x7FC00000), x)
                            for x in (actual, expected))
    np.testing.assert_array_equal(actual, expected)


def write_raw(path, tensors):
    """tensors: name -> (type, rows of raw bytes [rows, bytes of a row])"""
    writer = gguf.GGUFWriter(path, "sample")
    for name, (kind, raw) in tensors.items():
        writer.add_tensor(name, raw, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def raw_rows(kind, rng, rows, blocks):
    return rng.integers(0, 256, (rows, blocks * gguf.GGML_QUANT_SIZES[kind][1]), dtype=np.uint8)


@pytest.mark.parametrize("kind", SUPPORTED, ids=lambda kind: kind.name)
def test_random_blocks(run, tmp_path, kind):
    # Random bytes: scales that are infinite, subnormal or NaN are among them.
    raw = raw_rows(kind, np.random.default_rng(7), 64, 32)
    write_raw(tmp_path / "x.gguf", {"t": (kind, raw)})
    with np.errstate(all="ignore"):
        expected = gguf.dequantize(raw, kind)
    assert_same_bits(dequantized(run, tmp_path / "x.gguf", "t"), bits(expected), kind)


@pytest.mark.parametrize("kind", [Type.F16, Type.Q4_0, Type.Q4_1, Type.Q8_0],
                         ids=lambda kind: kind.name)
def test_every_half_as_value_or_scale(run, tmp_path, kind):
    raw = raw_rows(kind, np.random.default_rng(8), 256, 256)
    blocks = raw.reshape(65536, -1)
    blocks[:, :2] = np.arange(65536, dtype="<u2").view(np.uint8).reshape(-1, 2)
    write_raw(tmp_path / "x.gguf", {"t": (kind, raw)})
    with np.errstate(all="ignore"):
        expected = gguf.dequantize(raw, kind)
    assert_same_bits(dequantized(run, tmp_path / "x.gguf", "t"), bits(expected), kind)


def test_the_real_model(run, gguf_path):
    tensors = gguf.GGUFReader(gguf_path).tensors
    by_type = {}
    for tensor in tensors:
        by_type.setdefault(tensor.tensor_type, []).append(tensor)
    assert set(by_type) <= set(SUPPORTED)
    # The first, a middle and the last tensor of each type; the largest, the embedding, is among
    # them.
    chosen = {t.name: t for ts in by_type.values() for t in (ts[0], ts[len(ts) // 2], ts[-1])}
    largest = max(tensors, key=lambda tensor: tensor.n_elements)
    chosen[largest.name] = largest
    for tensor in chosen.values():
        expected = gguf.dequantize(tensor.data, tensor.tensor_type)
        np.testing.assert_array_equal(dequantized(run, gguf_path, tensor.name), bits(expected),
                                      err_msg=tensor.name)


def test_gguf_reads_what_we_write(run, tmp_path):
    path = tmp_path / "sample.gguf"
    assert run("parity-gguf", "write", path).returncode == 0
    reader = gguf.GGUFReader(path)
    contents = {
        key: (field.types, field.contents())
        for key, field in reader.fields.items() if not key.startswith("GGUF.")
    }
    scalar = {
        "u8": (GGUFValueType.UINT8, 255),
        "i8": (GGUFValueType.INT8, -128),
        "u16": (GGUFValueType.UINT16, 65535),
        "i16": (GGUFValueType.INT16, -32768),
        "u32": (GGUFValueType.UINT32, 4294967295),
        "i32": (GGUFValueType.INT32, -(2**31)),
        "f32": (GGUFValueType.FLOAT32, float(np.float32(0.1))),
        "bool": (GGUFValueType.BOOL, True),
        "str": (GGUFValueType.STRING, "snow☃man"),
        "u64": (GGUFValueType.UINT64, 2**64 - 1),
        "i64": (GGUFValueType.INT64, -(2**63)),
        "f64": (GGUFValueType.FLOAT64, 0.1),
    }
    array = {
        "[u8]": (GGUFValueType.UINT8, [0, 255]),
        "[f32]": (GGUFValueType.FLOAT32, [1.5, -2.5]),
        "[bool]": (GGUFValueType.BOOL, [True, False]),
        "[str]": (GGUFValueType.STRING, ["", "two", "three"]),
        "[i64]": (GGUFValueType.INT64, [-1, 1]),
    }
    expected = {"general.architecture": ([GGUFValueType.STRING], "sample")}
    expected |= {key: ([kind], value) for key, (kind, value) in scalar.items()}
    expected |= {key: ([GGUFValueType.ARRAY, kind], value) for key, (kind, value) in array.items()}
    assert contents == expected
    assert list(contents) == list(expected)

    matrix, halves, quantized = reader.tensors
    assert [t.name for t in reader.tensors] == ["matrix", "halves", "quantized"]
    np.testing.assert_array_equal(matrix.data, np.arange(6, dtype=np.float32).reshape(2, 3))
    np.testing.assert_array_equal(halves.data, np.array([1, -2, 0.5], dtype=np.float16))
    assert quantized.tensor_type == Type.Q8_0
    assert quantized.data.shape == (2, 34) and (quantized.data == 0x11).all()
    assert [int(t.data_offset) % 32 for t in reader.tensors] == [0, 0, 0]


def test_a_type_that_vyx_does_not_read_is_named(run, tmp_path):
    raw = raw_rows(Type.Q4_K, np.random.default_rng(9), 1, 1)
    write_raw(tmp_path / "x.gguf", {"t": (Type.Q4_K, raw)})
    result = run("parity-gguf", "dequantize", tmp_path / "x.gguf", "t")
    assert result.returncode == 1
    assert b"found type Q4_K, expected F32, F16" in result.stderr
