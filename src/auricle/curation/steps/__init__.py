"""The steps that come with Auricle; `curation.table` knows them by name."""
