"""Parameters of one synthetic scan, drawn before anything is computed.

A record fully determines its scan: it contains every parameter, and noise and textures follow from
`seed`. Positions are MNI152 mm in the anatomy before the pose is applied.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Pose:
    """Residual pose after registration, which does not correct tilt, height and shape.

    Attributes:
        rotation_deg: Rotation about x (pitch), y (roll) and z (yaw).
        scale: Size relative to the anatomy, per axis.
        shift_mm: Translation along x, y and z.
        mirrored: Whether left and right are exchanged.
        elastic_mm: SD of the elastic deformation.
        elastic_distance_mm: Distance between its knots.
    """

    rotation_deg: Triple
    scale: Triple
    shift_mm: Triple
    mirrored: bool
    elastic_mm: float
    elastic_distance_mm: float


@dataclass(frozen=True)
class Contrast:
    """Tissue contrast.

    Attributes:
        b0: Signal of each `Tissue` without diffusion weighting; white matter is about 1.
        adc: ADC of each `Tissue`, 1e-3 mm^2/s.
        texture: SD of the signal within a tissue, as a fraction of the mean.
        adc_texture: SD of the ADC within a tissue, as a fraction of the mean.
        atrophy: Threshold on a smooth field, in SD, above which the outer millimetre of cortex
            becomes CSF; 3 keeps nearly all cortex, 0 removes half.
        ventricle_mm: Growth of the ventricles, -3 to 3.
        fullness_mm: Growth of the cortex into the sulci, 0 to 2, as in younger brains.
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
    """A region of altered tissue: an acute infarct or a mimic.

    Attributes:
        kind: Phase of an acute infarct, or name of a mimic.
        source: Name of the real lesion mask that defines the shape, or "" for a synthetic shape.
        site: Name of the site of a synthetic shape; "" for a real one.
        centre_mm: Centre.
        axes: Relative size of a synthetic shape along x, y and z.
        volume_ml: Target volume; the available tissue may be smaller.
        roughness: Roughness of the border of a synthetic shape, 0 to 1.
        edge_mm: SD of the blur at the border.
        adc_gain: Factor on the ADC inside.
        b0_gain: Factor on the signal without diffusion weighting inside.
        texture: SD of the change inside, as a fraction of the change.
        shape_ml: Volume that sets the scale of a synthetic shape; that of the spot if None. Time
            points of one infarct share it, so that the smaller mask lies within the larger one.
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
    shape_ml: float | None = None


@dataclass(frozen=True)
class Bump:
    """A spatial Gaussian: models signal pile-up, bright cortex, a fibre tract or a coil element.

    Attributes:
        kind: Name of the modelled effect.
        centre_mm: Position of the maximum.
        size_mm: SD along x, y and z.
        height: Maximum, in the unit of the affected quantity.
    """

    kind: str
    centre_mm: Triple
    size_mm: Triple
    height: float


@dataclass(frozen=True)
class Acquisition:
    """Acquisition parameters.

    Attributes:
        bvalue: b-value, s/mm^2.
        in_plane_mm: Pixel size along x and y.
        thickness_mm: FWHM of the slice profile.
        spacing_mm: Distance between slice centres (thickness plus gap).
        first_mm: Height of the lowest slice centre above the lowest voxel of the MNI grid.
        slices: Number of slices.
        snr: Signal-to-noise ratio of white matter on DWI.
        b0_noise: Noise SD of b0 relative to DWI.
        psf: FWHM of the in-plane point spread function, pixels.
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
    """Artefacts of the acquisition and of the brain mask.

    Attributes:
        shading: SD of the log coil sensitivity, common to b0 and DWI.
        shading_mm: Distance between the knots of the sensitivity field.
        coils: Coil elements that brighten adjacent tissue; height in log signal.
        filter_difference: SD of the log gain of a vendor filter applied to DWI only.
        distortion_mm: SD of the smooth part of the EPI distortion along A-P.
        susceptibility: Field distortions near air; height is the displacement along A-P, mm.
        pile_up: Signal pile-up near air; height as a fraction of the signal.
        rims: Signal pile-up in a band along the border of the brain; height as for `pile_up`.
        rim_mm: SD of the blur of the brain mask that defines depth and width of the band.
        rim_level: Value of the blurred brain mask at the maximum of the band; 0.5 is the border.
        pile_up_adc: Limit of the relative ADC reduction at strong pile-up, because DWI and b0 are
            distorted differently.
        dwi_shift_mm: Shift of DWI relative to b0 along x and y (motion, eddy currents).
        dwi_stretch: Relative stretch of DWI relative to b0 along y.
        ghost: Fraction of the signal that reappears half a field of view away.
        slice_gain: SD of the gain between DWI slices.
        moved_slices: Slices with head motion, as (slice, pixels along x, pixels along y).
        dropped: DWI slices with signal loss, as (slice, remaining fraction).
        spike: (slice, cycles along x, cycles along y, height in noise SD), or None.
        mask_wobble: SD of the smooth error of the brain mask, as a fraction of its soft edge.
        mask_level: Threshold on the soft edge of the brain; 0.5 is the true border.
        leaks: Regions where the brain mask includes eyes and fat (height above 0) or misses brain
            (below 0).
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
    """Reader-specific threshold on the infarct fraction of a voxel.

    Readers include partial-volume voxels in small foci and follow the edge of large infarcts.

    Attributes:
        small: Minimum infarct fraction of a segmented voxel, for foci up to `SMALL_ML`.
        large: Minimum infarct fraction for infarcts of at least `LARGE_ML`. In between, the
            threshold is linear in the logarithm of the volume.
    """

    small: float
    large: float


@dataclass(frozen=True)
class Record:
    """Parameters of one synthetic scan.

    Attributes:
        seed: Seed of noise and textures.
        cohort: Name of the cohort.
        anatomy: Name of the anatomy in the bank; not used if there is a background.
        background: Name of the real scan used as background, or "".
        pose: Pose of the head.
        contrast: Tissue contrast.
        lesions: Acute infarcts, the content of the lesion mask.
        mimics: Lesions that resemble acute infarcts.
        tracts: Tracts with low ADC and cortex with high signal; height as a fraction.
        white_spots: White-matter hyperintensity as (threshold in SD, b0 gain, ADC gain), or None.
        acquisition: Acquisition parameters.
        artefacts: Artefacts.
        habit: Threshold of the reader who segments the infarcts.
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
        """Return the record as JSON-compatible values."""
        return asdict(self)
