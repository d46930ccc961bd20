"""Streams: words while they are spoken, for one speaker or for many at once.

A `Stepper` turns chunks of audio into tokens (`cache_aware` for models trained to stream,
`buffered` for all others), `Utterances` turns tokens into events, and `Stream` and `Streams` hold
both together.
"""
