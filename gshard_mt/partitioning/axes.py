"""The alphabet of array axes, and the one table of the mesh axes over which letters are split."""
# SPDX-License-Identifier: Apache-2.0

from collections.abc import Iterable, Mapping

# Every array axis in this project is one of these letters; 1 is an axis of size one.
ALPHABET = {
    "B": "rows (sentences or packed rows) in a batch",
    "L": "source or key positions",
    "T": "target or query positions",
    "G": "groups of tokens that compete for the same expert slots",
    "S": "tokens in a group",
    "E": "experts",
    "A": "groups of experts (first level of a hierarchical gate)",
    "J": "experts in a group of experts (second level)",
    "C": "slots per expert and group (capacity)",
    "K": "choices (experts of a token, candidates of a beam search)",
    "F": "choices of all tokens of a group in one axis",
    "R": "rows of a matrix (expert inputs of all slots or choices, tokens of a block)",
    "M": "model width",
    "H": "hidden width of a feed-forward",
    "N": "attention heads",
    "D": "width of one head",
    "V": "vocabulary",
    "W": "beams",
    "I": "blocks of rows, steps, tokens or vocabulary",
    "Q": "sentences that a row translates one after another",
    "X": "language pairs",
    "P": "depth: blocks of a stack",
}

# The devices form a grid with these axes. The batch is split over `dcn_data`, `data` and `expert`,
# experts over `expert`, and every wide layer over `model`. Devices along `stage` hold a part of the
# depth each; a mesh has this axis only for a pipeline. `dcn_data` numbers the slices, which a slow
# network joins, and a mesh has it only for several; no parameter is split over it.
MESH_AXES = ("stage", "dcn_data", "data", "expert", "model")

# Letter -> the mesh axes it claims. A letter that is not listed is never split.
RULES = {
    "B": ("dcn_data", "data", "expert"),
    "G": ("dcn_data", "data", "expert"),
    "E": ("expert",),
    "H": ("model",),
    "N": ("model",),
    "P": ("stage",),
}

# With `mesh.shard_parameters` parameters and optimizer state are stored by this table instead: the
# devices of a slice that share the batch share every matrix too, and hold all of it only while they
# use it.
# The experts' matrices are split by expert first.
PARAMETER_RULES = RULES | {"M": ("data", "expert")}

# Replicated on every device: the gate, which gates the device's own tokens (as in the paper,
# section 3.2), and the scales of norms, which are small.
WHOLE = ("ME", "M")
WHOLE_RULES = {"P": RULES["P"]}

# The letters of matrices and tables, and those that a product with them sums over. Quantized to
# 8 bits, they have a scale for each index of the other letters.
SUMMED = {"MND": "M", "NDM": "ND", "MH": "M", "HM": "H", "EMH": "M", "EHM": "H", "VM": "M"}

# One array axis in a spec: not split, split over one mesh axis, or over several.
AxisSpec = None | str | tuple[str, ...]


def spec(
    letters: str,
    mesh_axis_names: Iterable[str] = MESH_AXES,
    rules: Mapping[str, tuple[str, ...]] = RULES,
) -> tuple[AxisSpec, ...]:
    """Returns how an array with these axes is split: one entry per letter.

    Letters are read from left to right, and a mesh axis goes to the first letter that claims it. So
    in `GSM` the groups own `data` and `expert`; in `EGCM` the experts own `expert` and the groups
    keep `data`; going from one to the other is GShard's all-to-all. Axes that the mesh does not
    have are left out. Raises ValueError for a letter outside the alphabet.
    """
    free = list(mesh_axis_names)
    entries: list[AxisSpec] = []
    for letter in letters:
        if letter not in ALPHABET:
            raise ValueError(f"{letters!r}: {letter!r} is not a letter of {''.join(ALPHABET)}")
        claimed = tuple(name for name in rules.get(letter, ()) if name in free)
        free = [name for name in free if name not in claimed]
        entries.append(claimed if len(claimed) > 1 else claimed[0] if claimed else None)
    return tuple(entries)


def parameter_rules(letters: str, shard_parameters: bool) -> Mapping[str, tuple[str, ...]]:
    """Returns the table by which to store a parameter with these axes."""
    if letters in WHOLE:
        return WHOLE_RULES
    return PARAMETER_RULES if shard_parameters else RULES


def letters_of(name: str) -> str:
    """Returns the letters at the end of an array's name: `ME` of `wg_ME`."""
    return name.rsplit("_", 1)[1]


def scale_letters(letters: str) -> str:
    """Returns the letters of a quantized weight's scale: `ND` for `MND`."""
    return "".join(letter for letter in letters if letter not in SUMMED[letters])


def names(entry: AxisSpec) -> tuple[str, ...]:
    """Returns the mesh axes of one entry of a spec, as a tuple."""
    if entry is None:
        return ()
    return (entry,) if isinstance(entry, str) else entry
