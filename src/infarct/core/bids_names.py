"""Parsing of BIDS file names: entities, type of the image, and space.

Scanner-derived images are named in several ways: by suffix (`_ADC`, `_trace`), by `rec-` (SOOP,
OpenNeuro ds004889: `rec-ADC_dwi`), by `acq-` (proposed in bids-specification issue 1723) and by
`desc-`. All of them are supported, so that a parameter map is never mistaken for a DWI.

References:
    Gorgolewski et al. 2016, "The brain imaging data structure"; bids-specification, "Diffusion
    imaging data"; bids-examples, `dwi_deriv`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from infarct.core.diffusion import B0_BELOW

Role = Literal["dwi", "b0", "adc", "map"]
"""`map` is any parameter map other than ADC: FA, exponential ADC, colour FA, tensor ..."""

_DWI = ("traceweighted", "tracew", "trace")
_B0 = ("s0map", "bzero", "nodif", "s0", "b0")
_ADC = ("adcmap", "adc")
_MAPS = (
    *("fa", "famap", "colfa", "cfa", "fac", "facolor", "facolour", "colorfa", "colourfa", "rgbfa"),
    *("decfa", "colormap", "colourmap", "fractionalanisotropy", "tensor"),
    *("eadc", "eadcmap", "expadc", "expadcmap", "exponentialadc", "exp"),
    *("rgb", "color", "colour"),
)
_ROLES: dict[str, Role] = {
    **dict.fromkeys(_DWI, "dwi"),
    **dict.fromkeys(_B0, "b0"),
    **dict.fromkeys(_ADC, "adc"),
    **dict.fromkeys(_MAPS, "map"),
}
"""Words for the type of an image, in lower case, in any entity or suffix."""

_SHORT_MAPS: dict[str, Role] = dict.fromkeys(
    ("md", "rd", "ad", "mo", "mk", "ak", "rk", "dec"), "map"
)
"""Words that also have other meanings in `acq-`."""

_SUFFIXES: dict[str, Role] = {
    **_ROLES,
    **_SHORT_MAPS,
    **{"dwi": "dwi", "sbref": "b0", "dwimap": "map"},
}

_STRENGTH: tuple[Role, ...] = ("map", "adc", "b0", "dwi")
"""Precedence of roles if parts of a name disagree: a map must never be mistaken for a DWI."""

_ROLE_ENTITIES = ("desc", "rec", "acq", "param")
"""Entities whose labels may state the type of an image."""

_NOT_IDENTITY = {"desc", "space", "res", "part", "param", "model", "label"}
"""Entities that describe the type or processing of an image, not which scan it comes from."""

_NATIVE = {
    *("", "orig", "native", "individual", "scanner", "raw", "dwi", "dwiref"),
    *("trace", "tracew", "adc", "b0", "s0map"),
}
"""Values of `space-`, in lower case, that denote the native space."""

_TEMPLATES = ("mni", "icbm", "talairach", "fsaverage", "fslr", "colin", "oasis", "nihpd", "unc")
"""Prefixes of the names of template spaces, in lower case."""

_FA_AT_AN_END = re.compile(r"(.*[a-z0-9]|DTI)(?:col)?FA(?:map)?|FA(?:map)?([A-Z].*)")

_NIFTI = re.compile(r"\.nii(\.gz)?$", re.IGNORECASE)


@dataclass(frozen=True)
class Name:
    """A parsed BIDS file name.

    Attributes:
        entities: Entities as written, in the order of the name.
        suffix: Last part of the name.
        role: Type of the image; None if it is not a diffusion image.
        identity: Entities that identify the scan.
        described: Whether the name is more specific than `dwi`, as in `rec-TRACE_dwi`.
        bvalue: b-value in the name, s/mm^2, as in `acq-b1000_dwi`.
    """

    entities: Mapping[str, str]
    suffix: str
    role: Role | None
    identity: Mapping[str, str]
    described: bool = False
    bvalue: float | None = None

    @property
    def space(self) -> str:
        """The value of `space-`; empty for the native space."""
        space = self.entities.get("space", "")
        return "" if space.lower() in _NATIVE else space

    @property
    def in_template(self) -> bool:
        """Whether the image is in a template space."""
        return self.space.lower().startswith(_TEMPLATES)


def stem_of(name: str) -> str:
    """Return a file name without `.nii` or `.nii.gz`, in upper or lower case."""
    return _NIFTI.sub("", name)


def read_name(name: str) -> Name | None:
    """Parse the name of a NIfTI file.

    Args:
        name: File name without folders.

    Returns:
        The parsed name; None unless it has the form `KEY-LABEL[_KEY-LABEL ...]_SUFFIX.nii[.gz]`.
    """
    stem = stem_of(name)
    *parts, suffix = stem.split("_")
    pairs = [part.partition("-") for part in parts]
    if stem == name or not suffix or not pairs or not all(key and value for key, _, value in pairs):
        return None
    entities = {key: value for key, _, value in pairs}
    of_suffix = _SUFFIXES.get(suffix.lower())
    identity, roles, bvalue = {}, [], None
    for key, label in entities.items():
        role, rest = _role_in(key, label) if key in _ROLE_ENTITIES else (None, label)
        if role is not None:
            roles.append(role)
        if key not in _NOT_IDENTITY and rest:
            identity[key] = rest
        if key in _ROLE_ENTITIES and (number := re.fullmatch(r"[bB](\d+)", label)):
            bvalue = float(number.group(1))
    if of_suffix is not None and suffix.lower() != "dwimap":
        roles.append(of_suffix)
    elif of_suffix is not None and not roles:
        roles.append("map")
    found = next((role for role in _STRENGTH if role in roles), None) if of_suffix else None
    if found == "dwi" and bvalue is not None and bvalue < B0_BELOW:
        found = "b0"
    described = suffix.lower() != "dwi" or len(roles) > 1
    return Name(entities, suffix, found, identity, described, bvalue)


def _role_in(key: str, label: str) -> tuple[Role | None, str]:
    """Return the image type that a label states, and the rest of it: `resolveADC` -> `resolve`.

    Words are matched only at the ends of a label, since `headcoil` is unrelated to ADC. FA is
    matched only in capitals and not before a digit, since `FA90` is a flip angle.
    """
    lower = label.lower()
    known = _ROLES if key == "acq" else {**_ROLES, **_SHORT_MAPS}
    if lower in known:
        return known[lower], ""
    for word in ("expadc", *_ADC, *_DWI, "s0map"):
        role: Role = "map" if word == "expadc" else _ROLES[word]
        if lower.startswith(word):
            return role, label[len(word) :]
        if lower.endswith(word):
            return role, label[: -len(word)]
    if found := _FA_AT_AN_END.fullmatch(label):
        return "map", found.group(1) or found.group(2) or ""
    return None, label
