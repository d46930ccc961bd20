"""What `tools/make_goldens.py` is made of: inputs, tiny models, and the recording of their outputs.

Needs nemo-toolkit 3.0.0 and transformers; nothing here is part of the package.
"""
