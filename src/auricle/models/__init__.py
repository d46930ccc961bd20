"""The networks: one architecture a file. Nothing here knows of files, tokenizers or decoding."""
