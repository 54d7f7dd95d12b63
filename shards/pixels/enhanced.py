"""Enhanced DICOM of one frame: what its functional groups say of the picture, said where it is looked for.

Enhanced images (X-ray angiography, tomosynthesis projections, CT, MR) state window, rescale and spacing in
SharedFunctionalGroupsSequence and PerFrameFunctionalGroupsSequence (PS3.3 C.7.6.16) and not at the top.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydicom import Dataset

GROUPS = ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence")
MACROS = {
    "FrameVOILUTSequence": ("WindowCenter", "WindowWidth", "VOILUTFunction"),
    "PixelValueTransformationSequence": ("RescaleSlope", "RescaleIntercept"),
    "PixelMeasuresSequence": ("PixelSpacing",),
}
"""PS3.3 C.7.6.16.2.10b, .9b and .1."""


def state_at_the_top(dataset: "Dataset") -> None:
    """Copy what the macros of the only frame say to the top of the data set, unless the top says it.

    The groups of the frame come before those that frames share.
    """
    for group in (item for name in GROUPS for item in (dataset.get(name) or ())[:1]):
        for macro, names in MACROS.items():
            if any(name in dataset for name in names):
                continue
            for item in (group.get(macro) or ())[:1]:
                for name in names:
                    if name in item:
                        dataset[name] = item[name]
