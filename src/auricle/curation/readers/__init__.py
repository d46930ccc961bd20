"""Where items come from: manifests, folders, tars, data sets, cuts. Nothing of them is lost."""

from auricle.curation.readers.cuts import Cuts
from auricle.curation.readers.dataset import Dataset
from auricle.curation.readers.folder import Folder
from auricle.curation.readers.manifest import Manifest
from auricle.curation.readers.reader import BadRow, Reader
from auricle.curation.readers.tar import Tar

__all__ = ["BadRow", "Cuts", "Dataset", "Folder", "Manifest", "Reader", "Tar"]
