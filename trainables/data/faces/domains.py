"""The two worlds of generated faces: posed ones in a studio, and ones in the wild."""

from dataclasses import dataclass

Range = tuple[float, float]


@dataclass(frozen=True)
class Domain:
    """How faces of a domain vary. Shares are 0..1 of faces; a range is (low, high).

    strength: of the expression, 1 = full. mixed_share, mixture: faces that show a second expression, and its weight
    beside the dominant one's (1 - weight). stray_*: action units that have nothing to do with the expression.
    hand_share: hand over the face, per class. occluded_share: sunglasses, scarf, microphone or another person's
    shoulder. yaw, pitch, roll in degrees (one deviation); scale in parts of the image a face unit; shift in parts of
    the image (one deviation). shade: how much darker one side of the light is; gain, gamma, contrast: of the whole
    image; tint: of a colour channel (one deviation); blur_px: of a 64 px image; noise: one deviation in grey levels;
    coarse: share of the pixels' side that a low-resolution camera saw.
    """

    strength: Range
    mixed_share: float
    mixture: Range
    stray_share: float
    stray_strength: float
    lopsided: float
    blink_share: float
    hand_share: tuple[float, float, float, float, float, float]
    occluded_share: float
    yaw: float
    pitch: float
    roll: float
    scale: Range
    shift: float
    shade: Range
    gain: Range
    gamma: Range
    contrast: Range
    tint: float
    blur_px: Range
    noise: Range
    coarse: Range
    clutter: bool


CLEAN = Domain(
    strength=(0.7, 1.2), mixed_share=0.05, mixture=(0.1, 0.3), stray_share=0.03, stray_strength=0.3, lopsided=0.05,
    blink_share=0.02, hand_share=(0.03, 0.03, 0.35, 0.02, 0.05, 0.08), occluded_share=0.0,
    yaw=4, pitch=3, roll=3, scale=(0.42, 0.465), shift=0.012, shade=(0, 0.15), gain=(0.92, 1.08), gamma=(0.9, 1.1),
    contrast=(0.9, 1.05), tint=0.02, blur_px=(0, 0.4), noise=(0, 3), coarse=(1, 1), clutter=False,
)  # fmt: skip
"""Posed, frontal, evenly lit: what synthetic training faces look like."""

WILD = Domain(
    strength=(0.55, 1.2), mixed_share=0.25, mixture=(0.15, 0.42), stray_share=0.05, stray_strength=0.4, lopsided=0.1,
    blink_share=0.05, hand_share=(0.06, 0.05, 0.4, 0.05, 0.1, 0.14), occluded_share=0.1,
    yaw=8, pitch=5, roll=5, scale=(0.4, 0.465), shift=0.018, shade=(0, 0.35), gain=(0.82, 1.15), gamma=(0.85, 1.2),
    contrast=(0.75, 1.05), tint=0.04, blur_px=(0, 0.7), noise=(0, 5), coarse=(0.65, 1), clutter=True,
)  # fmt: skip
"""Other people anywhere: what a classifier will meet."""

DOMAINS = {"clean": CLEAN, "wild": WILD}
