"""Noise-free signal and ADC of a head on the 1 mm lattice, before acquisition."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from infarct.lab.simulation import lesion_shapes, random_fields, separable_filters, warp
from infarct.lab.simulation.scan_parameters import Artefacts, Bump, Contrast, Record, Spot
from infarct.lab.simulation.warp import SHAPE, Warp
from infarct.lab.sources.bank import Background, Bank
from infarct.lab.sources.tissue_classes import RIM_SHIFT, Tissue

FLUID_ADC = 1.6
"""1e-3 mm^2/s; voxels of a real background with higher ADC are treated as fluid."""

_ENCLOSED = 0.35
"""Fluid counts as brain if this fraction of its neighbourhood (Gaussian, SD 5 mm) is brain."""


_RIM_WIDTH = 0.2
"""Width of the pile-up band in units of the blurred brain mask; a few millimetres."""


@dataclass(frozen=True, eq=False)
class Head:
    """A head on the 1 mm lattice.

    Attributes:
        b0: (192, 224, 192) signal without diffusion weighting; white matter is about 1.
        adc: Same shape, 1e-3 mm^2/s.
        lesion: Same shape, 1 in acute infarcts, 0 elsewhere.
        brain: Same shape, 0 to 1; the border of the brain is at 0.5.
    """

    b0: torch.Tensor
    adc: torch.Tensor
    lesion: torch.Tensor
    brain: torch.Tensor


def build(record: Record, bank: Bank, device: torch.device | str) -> Head:
    """Build the head of a record.

    Args:
        record: Parameters of the scan.
        bank: Source of its anatomy, lesion masks and background.
        device: Torch device.
    """
    way = warp.make(record.pose, record.artefacts, record.seed, device)
    if record.background:
        real = bank.backgrounds[record.background]
        b0, adc, tissue = _from_background(real, way, record.contrast, device)
    else:
        code = warp.nearest(bank.anatomy(record.anatomy, device), way)
        tissue = _aged(code, record.contrast, record.seed)
        b0, adc = _paint(tissue, record.contrast, record.seed)
    inside = _brain_mask(tissue)
    brain = separable_filters.wide_blur(inside, 2.0, step=2)
    _white_spots(b0, adc, tissue, record)
    _bumps(b0, adc, tissue, record.tracts, way)
    lesion = _spots(b0, adc, _is_parenchyma(tissue), record, bank, way)
    pile_up = _pile_up(inside, record.artefacts, way)
    b0 *= way.gain
    adc *= 1 - record.artefacts.pile_up_adc * pile_up / (1 + pile_up)
    b0 *= pile_up.add_(1.0)
    return Head(b0, adc, lesion, brain)


def _spots(
    b0: torch.Tensor,
    adc: torch.Tensor,
    parenchyma: torch.Tensor,
    record: Record,
    bank: Bank,
    way: Warp,
) -> torch.Tensor:
    """Apply acute infarcts and mimics to b0 and ADC in place; return the acute lesion mask."""
    lesion = torch.zeros(SHAPE, device=b0.device)
    numbered = list(enumerate((*record.mimics, *record.lesions), start=1))
    first = len(record.mimics)
    # Old infarcts cannot infarct again: place acute infarcts first and mimics outside them.
    for number, spot in (*numbered[first:], *numbered[:first]):
        acute = number > first
        allowed = parenchyma if acute else parenchyma & (lesion == 0)
        seed = record.seed + 7919 * number
        box, mask = lesion_shapes.outline(spot, bank, way, allowed, seed)
        share = _change_weight(mask, spot, seed).mul_(allowed[box])
        b0[box] *= (1 + share * (spot.b0_gain - 1)).clamp_(min=0.1)
        adc[box] *= (1 + share * (spot.adc_gain - 1)).clamp_(min=0.15)
        if acute:
            lesion[box] = torch.maximum(lesion[box], mask)
    return lesion


def _pile_up(inside: torch.Tensor, wrong: Artefacts, way: Warp) -> torch.Tensor:
    """Return the relative signal pile-up near air and along the border of the brain."""
    gained = warp.hills(wrong.pile_up, way.target_from_source, inside.device)
    if wrong.rims:
        level = separable_filters.wide_blur(inside, wrong.rim_mm, step=2)
        band = torch.exp(-(((level - wrong.rim_level) / _RIM_WIDTH) ** 2))
        gained += band * warp.hills(wrong.rims, way.target_from_source, inside.device)
    return gained


def _is_parenchyma(tissue: torch.Tensor) -> torch.Tensor:
    return (tissue >= Tissue.CORTEX) & (tissue <= Tissue.CEREBELLAR_CORTEX)


def _aged(code: torch.Tensor, contrast: Contrast, seed: int) -> torch.Tensor:
    """Return the tissue of each voxel with widened or narrowed sulci and ventricles."""
    tissue, rim = code & (RIM_SHIFT - 1), code >> RIM_SHIFT.bit_length() - 1
    thin = random_fields.smooth(SHAPE, 10.0, seed, "atrophy", code.device) > contrast.atrophy
    fluid, ventricle = tissue == Tissue.CSF, tissue == Tissue.VENTRICLE
    edge = (rim >= 1) & ~fluid & ~ventricle
    aged = torch.where(thin & edge & (rim == 1), int(Tissue.CSF), tissue)
    if contrast.ventricle_mm > 0:
        lost = edge & (rim >= 2) & (rim < 2 + contrast.ventricle_mm)
        aged = torch.where(lost, int(Tissue.VENTRICLE), aged)
    elif contrast.ventricle_mm < 0:
        gained = ventricle & (rim >= 1) & (rim <= -contrast.ventricle_mm)
        aged = torch.where(gained, int(Tissue.WHITE), aged)
    if contrast.fullness_mm:
        gained = fluid & (rim >= 1) & (rim <= contrast.fullness_mm)
        aged = torch.where(gained, int(Tissue.CORTEX), aged)
    return aged


def _paint(
    tissue: torch.Tensor, contrast: Contrast, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return b0 signal and ADC (1e-3 mm^2/s) of every voxel."""
    painted = []
    index = tissue.flatten().int()
    textures = (contrast.texture, contrast.adc_texture)
    for name, values, sd in zip(("b0", "adc"), (contrast.b0, contrast.adc), textures, strict=True):
        table = torch.tensor(values, dtype=torch.float32, device=tissue.device)
        image = table.index_select(0, index).reshape(SHAPE)
        fine = random_fields.smooth(SHAPE, 4.0, seed, f"{name} fine", tissue.device)
        image *= fine.mul_(sd).add_(1.0)
        painted.append(image)
    b0, adc = painted
    return b0.clamp_(min=0.0), adc.clamp_(0.05, 4.0)


def _from_background(
    real: Background, way: Warp, contrast: Contrast, device: torch.device | str
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return b0, ADC (1e-3 mm^2/s) and tissue of a real lesion-free scan after warping."""
    images = torch.stack(
        [torch.from_numpy(image) for image in (real.b0, real.adc * 1e3, real.brain.astype("f4"))]
    )
    b0, adc, inside = warp.interpolate(images.to(device), way, real.native_from_mni)
    adc = adc * (contrast.adc[Tissue.WHITE] / 0.75)
    parenchyma = torch.where(adc > FLUID_ADC, int(Tissue.CSF), int(Tissue.WHITE))
    tissue = torch.where(inside > 0.5, parenchyma, int(Tissue.AIR)).to(torch.uint8)
    return b0.clamp_(min=0.0), adc.clamp_(0.05, 4.0), tissue


def _brain_mask(tissue: torch.Tensor) -> torch.Tensor:
    """Return the brain mask: parenchyma, ventricles, and fluid of sulci and fissures.

    Skull-stripping follows the outer contour of the brain, not that of each gyrus.
    """
    inside = (tissue >= Tissue.CORTEX) & (tissue <= Tissue.CHOROID_PLEXUS)
    enclosed = separable_filters.wide_blur(inside, 5.0, step=2) > _ENCLOSED
    return inside | (enclosed & (tissue == Tissue.CSF))


def _white_spots(b0: torch.Tensor, adc: torch.Tensor, tissue: torch.Tensor, record: Record) -> None:
    """Apply white-matter hyperintensity, mainly periventricular, to b0 and ADC in place."""
    if record.white_spots is None:
        return
    level, b0_gain, adc_gain = record.white_spots
    field = random_fields.smooth(SHAPE, 5.0, record.seed, "white spots", tissue.device)
    field += separable_filters.wide_blur(tissue == Tissue.VENTRICLE, 8.0, step=4).mul_(4.0)
    share = field.sub_(level).mul_(5.0).sigmoid_()
    share *= tissue == Tissue.WHITE
    b0.addcmul_(b0, share, value=b0_gain - 1)
    adc.addcmul_(adc, share, value=adc_gain - 1)


def _bumps(
    b0: torch.Tensor, adc: torch.Tensor, tissue: torch.Tensor, bumps: tuple[Bump, ...], way: Warp
) -> None:
    """Apply fibre tracts (low ADC) and bright cortex (high b0) to b0 and ADC in place."""
    places = (
        ("tract", adc, (Tissue.WHITE, Tissue.BRAINSTEM), -1.0),
        ("cortex", b0, (Tissue.CORTEX, Tissue.DEEP_GREY), 1.0),
    )
    for kind, image, tissues, sign in places:
        chosen = tuple(b for b in bumps if b.kind == kind)
        if chosen:
            share = warp.hills(chosen, way.target_from_source, b0.device).clamp_(max=0.4)
            share *= (tissue == tissues[0]) | (tissue == tissues[1])
            image.addcmul_(image, share, value=sign)


def _change_weight(mask: torch.Tensor, spot: Spot, seed: int) -> torch.Tensor:
    """Return the weight of a spot's change in each voxel: soft at the edge, textured inside."""
    x, y, z = mask.shape
    soft = separable_filters.apply(
        mask, [separable_filters.blur(n, spot.edge_mm) for n in mask.shape]
    )
    uneven = random_fields.smooth((x, y, z), 5.0, seed, "uneven", mask.device)
    return soft.mul_(uneven.mul_(spot.texture).add_(1.0).clamp_(0.0, 1.6))
