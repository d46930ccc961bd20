"""Valid inputs, damaged on purpose: whatever comes of them must be a result or an AuricleError.

python -m tests.mutations --count 2000 --seed 0
"""
