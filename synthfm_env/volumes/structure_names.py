"""Gives each anatomical structure one name, for all data sets."""

import re

# TotalSegmentator's words, with spaces: the longest list in use, and the side comes last in it.
_ALIASES = {
    "adrenal gland left": ("left adrenal gland", "lag"),
    "adrenal gland right": ("right adrenal gland", "rag"),
    "aorta": (),
    "cartilage femoral": ("femoral cartilage", "femur cartilage"),
    "cartilage tibial": ("tibial cartilage", "tibia cartilage"),
    "cartilage tibial lateral": ("lateral tibial cartilage",),
    "cartilage tibial medial": ("medial tibial cartilage",),
    "duodenum": (),
    "esophagus": ("oesophagus",),
    "femur": ("femoral bone", "distal femur"),
    "fetal head": ("foetal head",),
    "gallbladder": ("gall bladder",),
    "inferior vena cava": ("postcava", "post cava", "ivc"),
    "kidney left": ("left kidney",),
    "kidney right": ("right kidney",),
    "left atrium": ("la",),
    "left ventricle": ("lv", "left ventricle cavity", "lv endocardium", "lv endometrium"),
    "left ventricle wall": ("lv wall", "lv epicardium", "left ventricle myocardium"),
    "liver": (),
    "pancreas": (),
    "prostate": (),
    "pubic symphysis": (),
    "spleen": (),
    "stomach": (),
    "tibia": ("tibial bone", "proximal tibia"),
    "urinary bladder": ("bladder",),
}
_CANONICAL = {alias: name for name, aliases in _ALIASES.items() for alias in (name, *aliases)}
_NUMBERED = re.compile(r"^(?!rib\b)(.*\S)[ _#]+\d+$")  # ribs have numbers of their own


def canonical_name(name: str) -> str:
    """Return the project's name of a structure, or ``name`` itself if the structure is not in several data sets.

    Case and underscores do not matter; a side comes last, as in "kidney right".

    Example:
        >>> canonical_name("Left_Kidney"), canonical_name("postcava"), canonical_name("my lesion")
        ('kidney left', 'inferior vena cava', 'my lesion')
    """
    return _CANONICAL.get(" ".join(name.replace("_", " ").split()).lower(), name)


def structure_kind(name: str) -> str:
    """Return the kind of structure that an instance belongs to: its name without the number.

    Example:
        >>> structure_kind("interphase 12"), structure_kind("rib left 3"), structure_kind("vertebrae L3")
        ('interphase', 'rib left 3', 'vertebrae L3')
    """
    numbered = _NUMBERED.match(name)
    return numbered[1] if numbered else name
