"""Class names of trained networks, and which of them each of my classes starts from.

Conventions:
    Lists hold foreground names only; index i of a list is output 1 + i of a class head, output 0 is background.
"""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches

from crossview.build import ConfigError

# Alphabetical, the order of the challenge and of all networks trained on it.
VOC = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
# In the order of their category numbers.
COCO = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow", "elephant",
    "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard",
    "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle",
    "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange", "broccoli",
    "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant", "bed", "dining table", "toilet",
    "tv", "laptop", "mouse", "remote", "keyboard", "cell phone", "microwave", "oven", "toaster", "sink",
    "refrigerator", "book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush",
)  # fmt: skip
_UNUSED_COCO_NUMBERS = frozenset((12, 26, 29, 30, 45, 66, 68, 69, 71, 83))
UNUSED = "N/A"


def _by_category_number() -> tuple[str, ...]:
    """COCO's names at their category numbers 1..90, as torchvision's networks have them, with outputs of no use."""
    names = iter(COCO)
    return tuple(UNUSED if number in _UNUSED_COCO_NUMBERS else next(names) for number in range(1, 91))


KNOWN_LISTS = {"voc": (VOC,), "coco": (COCO, _by_category_number())}


def source_names(source_classes: str | Sequence[str], count: int) -> tuple[str, ...]:
    """Foreground names of a trained class head.

    Args:
        source_classes: ``voc``, ``coco`` or the names in the order of the head's outputs, without background.
        count: Foreground classes that the head has. It tells COCO's 80 classes from torchvision's 90 outputs.

    Raises:
        ConfigError: If the keyword is unknown or the number of names is not ``count``.
    """
    if isinstance(source_classes, str):
        if source_classes not in KNOWN_LISTS:
            raise ConfigError(
                f"init.source_classes: found {source_classes!r}, expected {', '.join(KNOWN_LISTS)} or a list of names"
            )
        candidates = KNOWN_LISTS[source_classes]
    else:
        candidates = (tuple(map(str, source_classes)),)
    for names in candidates:
        if len(names) == count:
            return names
    numbers = " or ".join(str(len(names)) for names in candidates)
    raise ConfigError(
        f"init.source_classes: found {numbers} names, but the file's class heads have {count} classes and background; "
        "expected one name for each, in the order of the outputs"
    )


def match_classes(
    class_names: Sequence[str], source: Sequence[str], class_map: Mapping[str, str | None]
) -> tuple[int | None, ...]:
    """Where each of my classes comes from: the name in ``class_map``, else the equal name in ``source``.

    Args:
        class_names: My classes.
        source: Names of the trained head.
        class_map: Source name by my name; None starts that class at random.

    Returns:
        For each of my classes its index in ``source``; None where it has no source.

    Raises:
        ConfigError: If the map holds a name that does not exist on its side, or not one class has a source though the
            map does not say for each that it starts at random.
    """
    for mine, theirs in class_map.items():
        if mine not in class_names:
            raise ConfigError(f"init.class_map: {mine!r} is none of the classes {_listed(class_names, mine)}")
        if theirs is not None and theirs not in source:
            raise ConfigError(
                f"init.class_map.{mine}: {theirs!r} is none of the file's classes {_listed(source, theirs)}"
            )
    wanted = [class_map.get(name, name) for name in class_names]
    indices = tuple(None if name is None or name not in source else source.index(name) for name in wanted)
    if all(index is None for index in indices) and set(class_map) != set(class_names):
        raise ConfigError(
            f"init.class_map: none of the classes {_listed(class_names)} is among the file's {_listed(source)}; say "
            f"what they start from, e.g. 'init.class_map={{{class_names[0]}: {source[0]}}}', or null for a random start"
        )
    return indices


def _listed(names: Sequence[str], sought: str | None = None) -> str:
    """The names, all of a few and the similar ones of many."""
    similar = get_close_matches(sought, names, n=3) if sought is not None else []
    if len(names) > 12:
        shown = similar or list(names[:3])
        return f"({len(names)}, among them {', '.join(shown)})"
    hint = f"; did you mean {similar[0]}?" if similar else ""
    return f"({', '.join(names)}{hint})"
