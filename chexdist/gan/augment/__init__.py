"""The augmentations by name, applied to real and generated images alike, so that the generator does not learn them."""

from types import ModuleType

from chexdist.gan.augment import translate

AUGMENTS: dict[str, ModuleType | None] = {"translate": translate, "none": None}
