"""Everything that is drawn for one synthetic scan, frozen before anything is computed.

A record rebuilds its scan: every number is here, and noise and textures follow from `seed`.
Positions are mm of MNI152 in the anatomy before it is posed.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Pose:
    """How the head lies after registration, which cannot mend tilt, height and shape.

    Attributes:
        rotation_deg: About x (nod), y (tilt) and z (turn).
        scale: Size against the anatomy, per axis.
        shift_mm: Along x, y, z.
        mirrored: Left and right exchanged.
        elastic_mm: SD of the elastic warp.
        elastic_distance_mm: Between its knots.
    """

    rotation_deg: Triple
    scale: Triple
    shift_mm: Triple
    mirrored: bool
    elastic_mm: float
    elastic_distance_mm: float


@dataclass(frozen=True)
class Contrast:
    """What tissues look like.

    Attributes:
        b0: Signal of each `Tissue` without diffusion weighting; white matter is about 1.
        adc: Of each `Tissue`, 1e-3 mm^2/s.
        texture: SD of the signal within a tissue, share of the mean.
        adc_texture: The same of the ADC.
        atrophy: SDs of a smooth field above which the outer millimetre of cortex turns to CSF;
            3 leaves nearly all, 0 takes half.
        ventricle_mm: How far the ventricles have grown, -3 - 3.
        fullness_mm: How far cortex fills the sulci, 0 - 2: a younger brain.
    """

    b0: tuple[float, ...]
    adc: tuple[float, ...]
    texture: float
    adc_texture: float
    atrophy: float
    ventricle_mm: int
    fullness_mm: int


@dataclass(frozen=True)
class Spot:
    """A patch of changed tissue: an acute infarct, or one that only resembles it.

    Attributes:
        kind: Phase of an acute infarct, or name of a mimic.
        source: Name of a real lesion mask that gives the shape, or "" for a made one.
        site: Where a made one was put, by name; "" for a real one.
        centre_mm: Centre.
        axes: Relative length of the made shape along x, y, z.
        volume_ml: Aimed at; tissue may offer less.
        roughness: Of the made outline, 0 - 1.
        edge_mm: SD of the blur at the border.
        adc_gain: Factor on the ADC inside.
        b0_gain: Factor on the signal without diffusion weighting inside.
        texture: SD of the change inside, share of the change.
    """

    kind: str
    source: str
    site: str
    centre_mm: Triple
    axes: Triple
    volume_ml: float
    roughness: float
    edge_mm: float
    adc_gain: float
    b0_gain: float
    texture: float


@dataclass(frozen=True)
class Bump:
    """A Gaussian hill in space: pile-up near air, bright cortex, a fibre tract, a coil element.

    Attributes:
        kind: Name of what it stands for.
        centre_mm: Its top.
        size_mm: SD along x, y, z.
        height: In the unit of what it changes.
    """

    kind: str
    centre_mm: Triple
    size_mm: Triple
    height: float


@dataclass(frozen=True)
class Acquisition:
    """How the scanner saw the head.

    Attributes:
        bvalue: s/mm^2.
        in_plane_mm: Pixel size along x and y.
        thickness_mm: FWHM of the slice profile.
        spacing_mm: Between slice centres; thickness plus gap.
        first_mm: Lowest slice centre above the floor of the MNI grid.
        slices: How many.
        snr: Of white matter on the DWI.
        b0_noise: Noise of b0 against that of the DWI.
        psf: FWHM of the in-plane point spread, pixels.
    """

    bvalue: float
    in_plane_mm: tuple[float, float]
    thickness_mm: float
    spacing_mm: float
    first_mm: float
    slices: int
    snr: float
    b0_noise: float
    psf: float


@dataclass(frozen=True)
class Artefacts:
    """What went wrong on the way.

    Attributes:
        shading: SD of the log of the coil sensitivity, common to b0 and DWI.
        shading_mm: Between its knots.
        coils: Elements that brighten what lies near them; height in log signal.
        filter_difference: SD of the log of what the vendor's filter changes on the DWI alone.
        distortion_mm: SD of the smooth part of the EPI stretch along A-P.
        susceptibility: Air that bends the field; height is the displacement along A-P, mm.
        pile_up: Signal gained next to such air; height as share of the signal on the DWI.
        rims: The same, but in a band along the brain's border.
        rim_mm: Scale of how deep below the border it runs, and how wide.
        rim_level: Share of brain among what lies about as far as that around, where it is
            brightest: .5 is the border.
        pile_up_adc: Share of the ADC that is lost where the signal piles up without bound: DWI and
            b0 are not bent alike.
        dwi_shift_mm: Displacement of the DWI against the b0 along x and y: motion, eddy currents.
        dwi_stretch: Stretch of the DWI against the b0 along y, share.
        ghost: Share of the signal that returns half the field of view away.
        slice_gain: SD of the gain from slice to slice on the DWI.
        moved_slices: Slices that the head moved in, as (slice, pixels along x, along y).
        dropped: Slices of the DWI that lost signal, as (slice, share that is left).
        spike: (slice, cycles along x, along y, height in noise SD), or None.
        mask_wobble: SD of the smooth error of the brain mask, share of its soft edge.
        mask_level: Where the soft edge is cut; .5 is the true border.
        leaks: Where the mask takes in eyes and fat (height above 0) or loses brain (below 0).
    """

    shading: float
    shading_mm: float
    coils: tuple[Bump, ...]
    filter_difference: float
    distortion_mm: float
    susceptibility: tuple[Bump, ...]
    pile_up: tuple[Bump, ...]
    rims: tuple[Bump, ...]
    rim_mm: float
    rim_level: float
    pile_up_adc: float
    dwi_shift_mm: tuple[float, float]
    dwi_stretch: float
    ghost: float
    slice_gain: float
    moved_slices: tuple[tuple[int, int, int], ...]
    dropped: tuple[tuple[int, float], ...]
    spike: tuple[int, int, int, float] | None
    mask_wobble: float
    mask_level: float
    leaks: tuple[Bump, ...]


@dataclass(frozen=True)
class Habit:
    """How a reader outlines: from which share of infarct on a voxel belongs to the outline.

    Readers include partial volume in small foci, and follow the edge of large infarcts.

    Attributes:
        small: Share of infarct in a voxel from which it is outlined, for a focus of `SMALL_ML` or
            less.
        large: The same for an infarct of `LARGE_ML` or more; in between it changes with the
            logarithm of the volume.
    """

    small: float
    large: float


@dataclass(frozen=True)
class Record:
    """One synthetic scan.

    Attributes:
        seed: Of its noise and textures.
        cohort: Name of the cohort it was drawn for.
        anatomy: Name in the bank; with a background, the anatomy gives nothing.
        background: Name of the real scan it is written on, or "".
        pose: How the head lies.
        contrast: What the tissues look like.
        lesions: Acute infarcts; all that `lesion` outlines.
        mimics: Changes that are none.
        tracts: Where diffusion stays restricted or cortex stays bright; height as share.
        white_spots: (SD above which white matter is hyperintense, b0 gain, ADC gain), or None.
        acquisition: How it was scanned.
        artefacts: What went wrong.
        habit: Of the reader who outlines the infarcts.
    """

    seed: int
    cohort: str
    anatomy: str
    background: str
    pose: Pose
    contrast: Contrast
    lesions: tuple[Spot, ...]
    mimics: tuple[Spot, ...]
    tracts: tuple[Bump, ...]
    white_spots: Triple | None
    acquisition: Acquisition
    artefacts: Artefacts
    habit: Habit

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain values."""
        return asdict(self)
