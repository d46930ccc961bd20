"""How long a test waits for another process or thread."""

PATIENCE = 600.0  # seconds: only what hangs takes so long, on a busy machine too
