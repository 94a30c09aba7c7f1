"""Damage image headers field by field and check what is accepted against an independent reader.

    python benchmarks/fuzz.py --mutants 10000 --seed 1

DICOM folders have a campaign of their own, `fuzz_dicom.py`.

Every mutant must be refused with an error of infarct, or be read exactly as a minimal reader of our
own (written from the standard, without nibabel), or carry a warning. Each batch runs in a process
with limits on memory and time. Failing mutants are kept in --keep, with the change in their names.
"""

from __future__ import annotations

import argparse
import bz2
import gzip
import multiprocessing
import random
import resource
import struct
import sys
import tempfile
import time
import traceback
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from infarct.core.errors import InfarctError
from infarct.core.nifti import read
from infarct.preprocessing.image_checks import check_grid

MEMORY = 3 * 2**30
"""Bytes of address space beyond what the libraries take."""

SECONDS = 20.0
"""CPU time for one mutant; tiny images take milliseconds. Not wall time, because the machine may be
paused or busy with other work."""

NIFTI1 = {
    **{"sizeof_hdr": (0, "i"), "dim_info": (39, "B"), "datatype": (70, "h"), "bitpix": (72, "h")},
    **{f"dim{i}": (40 + 2 * i, "h") for i in range(8)},
    **{f"pixdim{i}": (76 + 4 * i, "f") for i in range(8)},
    **{"intent_code": (68, "h"), "slice_start": (74, "h"), "vox_offset": (108, "f")},
    **{"scl_slope": (112, "f"), "scl_inter": (116, "f"), "slice_end": (120, "h")},
    **{"slice_code": (122, "B"), "xyzt_units": (123, "B"), "cal_max": (124, "f")},
    **{"cal_min": (128, "f"), "toffset": (136, "f"), "glmax": (140, "i"), "glmin": (144, "i")},
    **{"qform_code": (252, "h"), "sform_code": (254, "h")},
    **{f"quatern_{a}": (256 + 4 * i, "f") for i, a in enumerate("bcd")},
    **{f"qoffset_{a}": (268 + 4 * i, "f") for i, a in enumerate("xyz")},
    **{f"srow_{a}{j}": (280 + 16 * i + 4 * j, "f") for i, a in enumerate("xyz") for j in range(4)},
    **{f"magic{i}": (344 + i, "B") for i in range(4)},
    "extension": (348, "B"),
}
"""Offset and type of each field of a NIfTI-1 header."""

_WHOLE = (0, 1, -1, 2, 3, 4, 5, 6, 7, 8, 16, 32, 64, 127, 128, 255, 256, 348, 512, 768, 1024, 1280)
_WHOLE += (1536, 1792, 2048, 2304, 32767, -32768, 27307, 2**31 - 1, -(2**31))
_REAL = (
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    2.0,
    1e-30,
    1e30,
    -1e30,
    1e-45,
    3.4e38,
    1e5,
    -7.0,
    1000.0,
    0.001,
)
_REAL += (
    float("nan"),
    float("inf"),
    float("-inf"),
    347.0,
    348.0,
    351.0,
    352.0,
    353.5,
    368.0,
    416.0,
)
_TYPES = {
    2: "B",
    4: "h",
    8: "i",
    16: "f",
    64: "d",
    256: "b",
    512: "H",
    768: "I",
    1024: "q",
    1280: "Q",
}


@dataclass(frozen=True)
class Mutant:
    """A damaged file.

    Attributes:
        name: Of the file.
        change: What was done, for people.
        content: Its bytes.
    """

    name: str
    change: str
    content: bytes


def tiny_nifti(rng: random.Random) -> bytearray:
    """Write a small valid image: byte order, type, forms, scaling and axes vary."""
    order = rng.choice("<<<>")
    shape = [rng.choice((32, 33, 40)), rng.choice((8, 10)), rng.choice((3, 4, 5))]
    shape += [2] if rng.random() < 0.15 else []
    code, kind = rng.choice(list(_TYPES.items()))
    header = bytearray(352)

    def put(name: str, value: float) -> None:
        at, form = NIFTI1[name]
        struct.pack_into(order + form, header, at, value)

    put("sizeof_hdr", 348)
    put("dim0", len(shape))
    for i in range(1, 8):
        put(f"dim{i}", shape[i - 1] if i <= len(shape) else 1)
    sizes = (5.0, 14.0, 12.0)
    put("pixdim0", 1.0)
    for i, size in enumerate(sizes, start=1):
        put(f"pixdim{i}", size)
    put("datatype", code)
    put("bitpix", 8 * struct.calcsize(f"={kind}"))
    put("vox_offset", 352.0)
    put("scl_slope", rng.choice((0.0, 1.0, 0.5, float("nan"))))
    put("scl_inter", rng.choice((0.0, 0.0, 3.0)))
    put("xyzt_units", 2)
    sform, qform = rng.choice(((1, 1),) * 6 + ((2, 0), (2, 0), (0, 1), (0, 1), (0, 0)))
    put("sform_code", sform)
    put("qform_code", qform)
    for i, (axis, size) in enumerate(zip("xyz", sizes, strict=True)):
        put(f"srow_{axis}{i}", size)
        put(f"srow_{axis}3", -100.0 + i)
        put(f"qoffset_{axis}", -100.0 + i)
    header[344:348] = b"n+1\0"
    count = int(np.prod(shape))
    values = [rng.randrange(0, 100) for _ in range(count)]
    return header + struct.pack(f"{order}{count}{kind}", *values)


def mutate(seed: int) -> Mutant:
    """Damage one image; the same seed gives the same bytes."""
    rng = random.Random(seed)
    content, changes = tiny_nifti(rng), []
    suffix = rng.choice((".nii", ".nii", ".nii.gz", ".nii.bz2"))
    order = "<" if content[:4] == b"\x5c\x01\0\0" else ">"
    kind = rng.choices(("field", "two fields", "bits", "length", "packed"), (60, 15, 10, 8, 7))[0]
    for _ in range({"field": 1, "two fields": 2}.get(kind, 0)):
        name = rng.choice(list(NIFTI1))
        at, form = NIFTI1[name]
        value = struct.unpack_from(order + form, content, at)[0]
        value = _another(rng, value, form)
        struct.pack_into(order + form, content, at, value)
        changes.append(f"{name}={value:g}")
    if kind == "bits":
        for _ in range(rng.choice((1, 2, 8))):
            at = rng.randrange(352)
            content[at] ^= 1 << rng.randrange(8)
            changes.append(f"bit of byte {at}")
    if kind == "length":
        end = rng.choice((0, 3, 4, 100, 347, 348, 352, len(content) - 1, len(content) - 16))
        extra = rng.choice((b"\0", b"\1", bytes(100), bytes(4096), b"x" * 400))
        changes.append(rng.choice((f"cut at {end}", f"{len(extra)} bytes more")))
        content = content[:end] if changes[-1].startswith("cut") else content + extra
    packed = bytes(content)
    if suffix == ".nii.gz":
        packed = gzip.compress(packed, mtime=0)
    elif suffix == ".nii.bz2":
        packed = bz2.compress(packed)
    if kind == "packed":
        packed, change = _damage_stream(rng, bytes(content), packed)
        changes.append(change)
    return Mutant(f"{seed}{suffix}", f"{kind}: {', '.join(changes)}", packed)


def _another(rng: random.Random, value: float, form: str) -> float:
    if form == "f":
        near = (-value, value * 1000, value / 1000, value + 1, value + 16, value * 1.05)
        return rng.choice((*_REAL, *(v for v in near if abs(v) < 3e38)))
    near = (value + 1, value - 1, value * 2, value // 2, value ^ 64, value | 3, value + 4)
    low, high = {"B": (0, 255), "h": (-(2**15), 2**15 - 1), "i": (-(2**31), 2**31 - 1)}[form]
    return rng.choice([int(v) for v in (*_WHOLE, *near) if low <= v <= high])


def _damage_stream(rng: random.Random, plain: bytes, packed: bytes) -> tuple[bytes, str]:
    """Damage the compressed stream, or make one that inflates to far more than it should."""
    choice = rng.randrange(6)
    if choice == 0:
        return packed[: rng.randrange(len(packed))], "stream cut"
    if choice == 1:
        at = rng.randrange(len(packed))
        flipped = bytes([packed[at] ^ (1 << rng.randrange(8))])
        return packed[:at] + flipped + packed[at + 1 :], f"bit of stream byte {at}"
    if choice == 2:
        packer = zlib.compressobj(9, zlib.DEFLATED, 31)
        bomb = packer.compress(plain) + packer.compress(bytes(2**26)) + packer.flush()
        return bomb, "64 MB of zeros after the voxels"
    if choice == 3:
        return packed + b"trailing bytes that are not a stream", "garbage after the stream"
    if choice == 4:
        return gzip.compress(packed), "compressed twice"
    return packed + packed, "stream twice"


# The oracle: NIfTI-1 as the standard says, for what infarct accepts. It knows neither nibabel nor
# the reader under test.


def oracle(mutant: Mutant) -> tuple[np.ndarray, np.ndarray]:
    """Read an image by the letter of the standard.

    Returns:
        Voxel values, and the affine in mm; raises anything where the file is not valid.
    """
    content = mutant.content
    if content[:2] == b"\x1f\x8b":
        content = gzip.decompress(content)
    elif content[:3] == b"BZh":
        content = bz2.decompress(content)
    order = {b"\x5c\x01\0\0": "<", b"\0\0\x01\x5c": ">"}[bytes(content[:4])]
    field = {
        n: struct.unpack_from(order + form, content, at)[0] for n, (at, form) in NIFTI1.items()
    }
    if content[344:348] != b"n+1\0":
        raise ValueError("signature")
    shape = [field[f"dim{i}"] for i in range(1, field["dim0"] + 1)]
    kind = _TYPES[field["datatype"]]
    count = int(np.prod(shape, dtype=object))
    start = int(field["vox_offset"])
    if start < 352 or start != field["vox_offset"] or min(shape) < 1:
        raise ValueError("vox_offset or dim")
    if len(content) != start + count * struct.calcsize(f"={kind}"):
        raise ValueError("length")
    values = np.array(struct.unpack_from(f"{order}{count}{kind}", content, start), dtype=np.float64)
    slope, inter = field["scl_slope"], field["scl_inter"]
    if slope == 0 or np.isnan(slope):
        slope, inter = 1.0, 0.0
    with np.errstate(all="ignore"):
        data = (values * slope + inter).reshape(shape[::-1]).T
    sizes = np.array([field[f"pixdim{i}"] for i in (1, 2, 3)])
    affine = np.eye(4)
    if field["sform_code"] > 0:
        affine[:3] = [[field[f"srow_{a}{j}"] for j in range(4)] for a in "xyz"]
    elif field["qform_code"] > 0:
        b, c, d = (field[f"quatern_{a}"] for a in "bcd")
        a = np.sqrt(max(1 - b * b - c * c - d * d, 0))
        affine[:3, :3] = [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - c * c - b * b],
        ]
        affine[:3, :3] *= sizes * (1, 1, -1 if field["pixdim0"] < 0 else 1)
        affine[:3, 3] = [field[f"qoffset_{a}"] for a in "xyz"]
    else:
        # The standard leaves the position open; the origin at the centre, x to the left.
        affine[:3, :3] = np.diag(sizes * (-1, 1, 1))
        affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape[:3]) - 1) / 2)
    affine[:3] *= {1: 1000.0, 3: 0.001}.get(field["xyzt_units"] & 7, 1.0)
    return data, affine


def judge(path: Path, mutant: Mutant) -> str:
    """Read a mutant and say what became of it."""
    try:
        volume = read(path)
        first = volume.data if volume.data.ndim == 3 else volume.data[..., 0]
        findings = check_grid("DWI", replace(volume, data=first))
    except InfarctError:
        return "refused"
    except Exception:
        return f"TRACEBACK {traceback.format_exc(limit=-1)}"
    if any(finding.level == "warning" for finding in findings):
        return "accepted with a warning"
    try:
        data, affine = oracle(mutant)
    except Exception as error:
        return f"WRONG accepted, but not valid ({error})"
    while data.ndim > 3 and data.shape[-1] == 1:
        data = data[..., 0]
    with np.errstate(all="ignore"):
        same = data.shape == volume.data.shape and np.allclose(
            volume.data, data.astype(np.float32), rtol=1e-5, equal_nan=True
        )
    if not same:
        return "WRONG voxels"
    return "read exactly" if np.allclose(volume.affine, affine, atol=1e-3) else "WRONG affine"


def limit_memory() -> None:
    """Limit the memory of this process to what it has and `MEMORY` more."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def run_batch(batch: tuple[range, Path | None]) -> tuple[Counter[str], list[str], float]:
    """Try the mutants of some seeds; return counts, failures, and the longest time of one."""
    seeds, keep = batch
    counts: Counter[str] = Counter()
    failures, longest = [], 0.0
    with tempfile.TemporaryDirectory() as folder:
        for seed in seeds:
            mutant = mutate(seed)
            path = Path(folder) / mutant.name
            path.write_bytes(mutant.content)
            start = time.process_time()
            outcome = judge(path, mutant)
            taken = time.process_time() - start
            longest = max(longest, taken)
            outcome = f"SLOW {taken:.0f} s" if taken > SECONDS else outcome
            counts[outcome.split()[0] if outcome[:2].isupper() else outcome] += 1
            if outcome.split()[0].isupper():
                failures.append(f"{mutant.name} ({mutant.change}): {outcome}")
                if keep:
                    (keep / mutant.name).write_bytes(mutant.content)
            path.unlink()
    return counts, failures, longest


def fuzz_nifti(seed: int, mutants: int, keep: Path | None = None) -> tuple[Counter[str], list[str]]:
    """Try many mutants, each hundred in a process of its own with limited memory."""
    ranges = [range(i, min(i + 100, seed + mutants)) for i in range(seed, seed + mutants, 100)]
    context = multiprocessing.get_context("fork")
    counts: Counter[str] = Counter()
    failures: list[str] = []
    peak = longest = 0.0
    with context.Pool(1, limit_memory) as pool:
        for found, failed, slowest in pool.imap(run_batch, [(each, keep) for each in ranges]):
            counts += found
            failures += failed
            longest = max(longest, slowest)
            progress = f"{counts.total()} of {mutants} mutants, {len(failures)} failures"
            print(progress, file=sys.stderr, flush=True)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"{mutants} NIfTI mutants, longest {longest:.2f} s of CPU time, peak {peak:.0f} MB")
    return counts, failures


def lines(counts: Counter[str], failures: list[str]) -> Iterator[str]:
    """Yield the table of a campaign."""
    for outcome, count in counts.most_common():
        yield f"{count:7} {outcome}"
    yield from failures[:50]


def main() -> None:
    """Run a campaign; exit with 1 if a mutant was read wrongly or ended in a traceback."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mutants", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="Folder for NIfTI mutants that failed.")
    chosen = parser.parse_args()
    if chosen.keep:
        chosen.keep.mkdir(parents=True, exist_ok=True)
    counts, failures = fuzz_nifti(chosen.seed, chosen.mutants, chosen.keep)
    print("\n".join(lines(counts, failures)))
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
