"""Where items go: manifests, tars, Hugging Face data sets, Lhotse. Whole or not at all."""

from auricle.curation.writers.huggingface import HuggingFace
from auricle.curation.writers.lhotse import Lhotse
from auricle.curation.writers.manifest import Manifest
from auricle.curation.writers.tar import Tar
from auricle.curation.writers.writer import Writer

__all__ = ["HuggingFace", "Lhotse", "Manifest", "Tar", "Writer"]
