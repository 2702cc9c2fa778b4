"""Data sets: pictures in folders, decoded once into frames of the size that a network takes.

    find_pictures / ClassFolders  ->  decode_pictures  ->  frames uint8 [N, H, W, C], mapped from a file

Frames are made by `ecotta_rt.runtime.preprocess`, so that warm-up sees what the device will see.
"""

from ecotta_rt.data.decoding import Decoded, Left, decode_pictures, remove_store
from ecotta_rt.data.folders import ClassFolders, class_folder_names, find_pictures, is_class_folders, open_class_folders
from ecotta_rt.data.labelled import (
    Labelled,
    LabelledArrays,
    LabelledPictures,
    LabelledSet,
    SourceData,
    Unlabelled,
    UnlabelledArrays,
    UnlabelledPictures,
)
from ecotta_rt.sources.picture import read_picture

__all__ = [
    "ClassFolders",
    "Decoded",
    "Labelled",
    "LabelledArrays",
    "LabelledPictures",
    "LabelledSet",
    "Left",
    "SourceData",
    "Unlabelled",
    "UnlabelledArrays",
    "UnlabelledPictures",
    "class_folder_names",
    "decode_pictures",
    "find_pictures",
    "is_class_folders",
    "open_class_folders",
    "read_picture",
    "remove_store",
]
