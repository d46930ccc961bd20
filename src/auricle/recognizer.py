"""`load` and `Recognizer`: the two names that most people need.

Chooses the model and the engine; transcribing itself is `transcribe`'s work.
"""

from __future__ import annotations

import functools
import logging
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypedDict, Unpack, overload

from auricle import checkpoints, hub, transcribe
from auricle.checkpoints import embedded, whisper
from auricle.checkpoints.writing import RUN_MODEL
from auricle.decoding import Greedy
from auricle.engines import Engine, EngineOptions
from auricle.errors import ConfigError
from auricle.transcribe import AudioInput, Channel, Failure, Job, OnError, Source
from auricle.types import Transcript

if TYPE_CHECKING:
    from auricle.streaming.buffered import Buffering
    from auricle.streaming.cache_aware import Lookahead
    from auricle.streaming.model import StreamingModel
    from auricle.streaming.pool import Streams
    from auricle.streaming.stream import Stream, StreamState
    from auricle.streaming.utterances import Endpointing

DEFAULT_MODEL = "nvidia/parakeet-tdt-0.6b-v2"
EMBEDDED = "embedded"
EngineName = Literal["auto", "torch", "whisper"]
AdapterChoice = str | Path | None


class _Tensor(Protocol):
    """An array of any library, as `numpy.asarray` takes it."""

    def __array__(self) -> Any: ...


One = AudioInput | _Tensor
# Arrays are iterables too, so that `Iterable` would leave a type checker in doubt about them.
Many = Sequence[One] | Iterator[One] | Set[One]


log = logging.getLogger("auricle")


class TranscribeOptions(TypedDict, total=False):
    """What `Recognizer.transcribe` takes by name, for type checkers."""

    sample_rate: int | None
    decode: Greedy
    timestamps: bool | Literal["nemo"]
    batch_seconds: float | None
    language: str | None
    task: Literal["transcribe", "translate"]
    channel: Channel
    track: int | None
    adapter: AdapterChoice | Sequence[AdapterChoice]
    progress: bool


class Recognizer:
    """A loaded model, ready to transcribe; safe to share between threads.

    Make one with `auricle.load`.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = self._base = engine
        self._adapted: Mapping[str, Engine] = {}

    def __repr__(self) -> str:
        return f"Recognizer({self.model!r}, heads={self.heads})"

    @property
    def model(self) -> str:
        """The model's name, as it stands in `Transcript.model`."""
        return self._engine.name

    @property
    def heads(self) -> tuple[str, ...]:
        """The output heads that the checkpoint has: of "ctc", "rnnt", "tdt", or "whisper"."""
        return self._engine.heads

    @property
    def languages(self) -> tuple[str, ...]:
        """What `language=` may name; empty where the model gives no choice."""
        return self._engine.languages

    @property
    def sample_rate(self) -> int:
        """Samples per second that the model hears; other rates are resampled."""
        return self._engine.sample_rate

    def with_adapter(self, path: str | Path) -> Recognizer:
        """A view of this model with an adapter (LoRA or DoRA) beside its weights.

        It shares the model's tensors and changes nothing here, so that any number of views may
        work at once. It also knows the adapters of the view that it was made from, but does not
        add to them: `adapter=` takes any one of them by its folder's name.

        Args:
            path: The folder of an adapter in PEFT's layout, or of a training.

        Raises:
            ModelNotFound: There is nothing at `path`.
            CheckpointError: The adapter is damaged, or was made for another model.
            ConfigError: The model is a Whisper: merge the adapter by `auricle convert --merge`.
        """
        name, engine = self._with(path)
        view = Recognizer(engine)
        view._base, view._adapted = self._base, {**self._adapted, name: engine}
        return view

    # A text is also an iterable of texts, hence the first two complaints.
    @overload
    def transcribe(  # type: ignore[overload-overlap]
        self,
        x: One,
        *,
        on_error: Literal["raise"] = "raise",
        **options: Unpack[TranscribeOptions],
    ) -> Transcript: ...

    @overload
    def transcribe(  # type: ignore[overload-overlap]
        self,
        x: One,
        *,
        on_error: Literal["return"],
        **options: Unpack[TranscribeOptions],
    ) -> Transcript | Failure: ...

    @overload
    def transcribe(
        self,
        x: Many,
        *,
        on_error: Literal["raise"] = "raise",
        **options: Unpack[TranscribeOptions],
    ) -> list[Transcript]: ...

    @overload
    def transcribe(
        self,
        x: Many,
        *,
        on_error: Literal["return"],
        **options: Unpack[TranscribeOptions],
    ) -> list[Transcript | Failure]: ...

    def transcribe(
        self,
        x: One | Many,
        *,
        sample_rate: int | None = None,
        decode: Greedy = Greedy(),
        timestamps: bool | Literal["nemo"] = True,
        batch_seconds: float | None = None,
        language: str | None = None,
        task: Literal["transcribe", "translate"] = "transcribe",
        channel: Channel = None,
        track: int | None = None,
        adapter: AdapterChoice | Sequence[AdapterChoice] = None,
        on_error: OnError = "raise",
        progress: bool = False,
    ) -> Any:
        """Transcribe one recording, or many.

        Args:
            x: An audio or video file, a NumPy array or tensor, the bytes of a file, an open binary
                file, or a mapping of `datasets` (`{"array", "sampling_rate"}`); or a list of
                these, a folder, a glob, or a JSONL manifest.
            sample_rate: Of arrays, in samples per second; files and mappings say their own.
            decode: How to search; `Greedy()` is the only way so far.
            timestamps: False skips words and segments; "nemo" gives NeMo's own numbers, quirks
                included (docs/differences.md).
            batch_seconds: Audio seconds in one batch, padding included; None takes a good value
                for the device.
            language: For models that offer a choice; None detects or takes the model's default.
            task: "translate" (into English) needs a multilingual Whisper.
            channel: None mixes the channels; a number picks one; "all" transcribes each on its
                own and labels the speakers.
            track: Which audio track of a file, from 0; None is the one the file marks as its main.
            adapter: The name of one that this view knows, or a folder, which is read anew by each
                call; a list has one for each of the inputs. None is as this view has it.
            on_error: "return" puts a `Failure` where a recording's transcript would be.
            progress: Show a bar with recordings, audio and speed: on stderr, or in a notebook.

        Returns:
            A `Transcript`; for many recordings a list of them, in the order given. A folder, glob
            or manifest is many too, which its type cannot tell: write `[path]` for a checker.

        Raises:
            AudioError: A recording that cannot be read.
            ManifestError: A manifest row that cannot be read.
            ConfigError: An option that this model cannot honour.
        """
        either: Any = self.transcribe_iter  # both of its forms at once
        results: Iterator[Transcript | Failure] = either(
            x,
            sample_rate=sample_rate,
            decode=decode,
            timestamps=timestamps,
            batch_seconds=batch_seconds,
            language=language,
            task=task,
            channel=channel,
            track=track,
            adapter=adapter,
            on_error=on_error,
            progress=progress,
        )
        many = transcribe.is_many(x) or transcribe.is_listing(x)
        return list(results) if many else next(iter(results))

    @overload
    def transcribe_iter(
        self,
        x: One | Iterable[One] | Iterable[Source],
        *,
        on_error: Literal["raise"] = "raise",
        **options: Unpack[TranscribeOptions],
    ) -> Iterator[Transcript]: ...

    @overload
    def transcribe_iter(
        self,
        x: One | Iterable[One] | Iterable[Source],
        *,
        on_error: Literal["return"],
        **options: Unpack[TranscribeOptions],
    ) -> Iterator[Transcript | Failure]: ...

    def transcribe_iter(
        self,
        x: One | Iterable[One] | Iterable[Source],
        *,
        sample_rate: int | None = None,
        decode: Greedy = Greedy(),
        timestamps: bool | Literal["nemo"] = True,
        batch_seconds: float | None = None,
        language: str | None = None,
        task: Literal["transcribe", "translate"] = "transcribe",
        channel: Channel = None,
        track: int | None = None,
        adapter: AdapterChoice | Sequence[AdapterChoice] = None,
        on_error: OnError = "raise",
        progress: bool = False,
    ) -> Iterator[Any]:
        """Transcribe lazily, for a hundred thousand files; arguments as in `transcribe`.

        Results come in the order of the inputs; audio is read ahead on a thread, and no more
        than a few batches of it are held at once.
        """
        job = Job(
            options=EngineOptions(
                decode=decode, timestamps=timestamps, language=language, task=task
            ),
            sample_rate=sample_rate,
            channel=channel,
            track=track,
            batch_seconds=batch_seconds,
            on_error=on_error,
        )
        engine, recordings = self._engine, transcribe.sources(x)
        if isinstance(adapter, str | Path):
            engine = self._chosen(adapter)
        elif adapter is not None:
            inputs: list[Any] = list(x) if transcribe.is_many(x) else [x]  # type: ignore[arg-type]
            if len(adapter) != len(inputs):
                raise ConfigError(
                    f"{len(adapter)} adapters for {len(inputs)} inputs: give one of each"
                )
            engines = {one: self._chosen(one) for one in set(adapter)}
            recordings = (
                replace(source, engine=engines[one])
                for item, one in zip(inputs, adapter, strict=True)
                for source in transcribe.sources(item)
            )
        if not progress:
            return transcribe.run(engine, recordings, job)
        if isinstance(x, Iterator):  # read as it comes, so nobody knows how many
            return _with_bar(transcribe.run(engine, recordings, job), None)
        listed = list(recordings)
        return _with_bar(transcribe.run(engine, listed, job), len(listed))

    def _chosen(self, adapter: AdapterChoice) -> Engine:
        if adapter is None:
            return self._engine
        if isinstance(adapter, str) and adapter in self._adapted:
            return self._adapted[adapter]
        return self._with(adapter)[1]

    def _with(self, path: str | Path) -> tuple[str, Engine]:
        from auricle.engines.torch import TorchEngine

        if not isinstance(self._base, TorchEngine):
            raise ConfigError(
                f"{self.model} takes no adapter beside it: put it in by `auricle convert --merge`"
            )
        return self._base.adapted(path)

    @property
    def lookaheads(self) -> tuple[Lookahead, ...]:
        """What the model was trained to stream with, its default first.

        Empty for other models, which stream with any `latency_ms`, see `Buffering`.
        """
        return self._streaming.lookaheads

    def stream(
        self,
        *,
        latency_ms: float | None = None,
        lookahead: int | Sequence[int] | None = None,
        keep: bool = True,
        untrained: bool = False,
        endpointing: Endpointing | None = None,
        buffering: Buffering | None = None,
        language: str | None = None,
        sample_rate: int | None = None,
        state: StreamState | None = None,
    ) -> Stream:
        """Transcribe while it is spoken: push audio, get events.

        Args:
            latency_ms: From the start of a chunk of audio to its end: one of `lookaheads`, or for
                models that were not trained to stream what chunk and right context may take.
                None is the model's default.
            lookahead: The same in encoder steps, R or [L, R].
            keep: False hands finals out and forgets them, so that memory stays flat for ever.
            untrained: Take a latency that the model was not trained with.
            endpointing: What ends an utterance; None is `Endpointing()`.
            buffering: How models that were not trained to stream are cut.
            language: For models that offer a choice; None is the model's default.
            sample_rate: Of the audio that will be pushed; None is the model's.
            state: Go on from what `Stream.state` gave, with the options of that stream.

        Raises:
            ConfigError: The model has no such latency, or does not stream.
            MissingExtra: `Endpointing(vad=True)` without the extra `vad`.
        """
        from auricle.streaming.model import StreamOptions
        from auricle.streaming.stream import Stream, resolved

        options = StreamOptions(
            latency_ms=latency_ms,
            lookahead=lookahead,
            keep=keep,
            untrained=untrained,
            endpointing=endpointing,
            buffering=buffering,
            language=language,
            sample_rate=sample_rate,
        )
        model = self._streaming
        options, cut = resolved(model, options, state)
        return Stream(model, model.stepper(cut), options, cut, state=state)

    def streams(self, *, max_delay_ms: float = 20.0, max_batch: int = 64) -> Streams:
        """Many speakers at once: a pool whose streams are stepped together, in batches.

        Args:
            max_delay_ms: How long a chunk may wait for others to share its batch.
            max_batch: Streams in one batch at most.

        Raises:
            ConfigError: The model does not stream.
        """
        from auricle.streaming.pool import Streams

        return Streams(self._streaming, max_delay_ms=max_delay_ms, max_batch=max_batch)

    @functools.cached_property
    def _streaming(self) -> StreamingModel:
        from auricle.engines.torch import TorchEngine
        from auricle.streaming.model import StreamingModel

        if not isinstance(self._engine, TorchEngine):
            raise ConfigError(f"{self.model} does not stream: choose one of NVIDIA's models")
        return StreamingModel(self._engine)


def _with_bar(
    results: Iterator[Transcript | Failure], total: int | None
) -> Iterator[Transcript | Failure]:
    """Pass `results` on, and show on stderr, or in a notebook, how far they are."""
    from tqdm.auto import tqdm

    heard, began = 0.0, time.perf_counter()
    with tqdm(total=total, unit=" recordings") as bar:
        for result in results:
            if isinstance(result, Transcript):
                heard += result.duration
            speed = heard / max(time.perf_counter() - began, 1e-9)
            bar.set_postfix_str(f"{heard:.0f} s of audio, RTFx {speed:.1f}", refresh=False)
            bar.update()
            yield result


def load(
    name: str | Path | None = None,
    *,
    device: str = "auto",
    precision: str = "auto",
    head: str | None = None,
    engine: EngineName = "auto",
    revision: str | None = None,
    local_only: bool = False,
) -> Recognizer:
    """Load a model by hub name, folder or `.nemo` file.

    Args:
        name: A hub name ("nvidia/parakeet-ctc-0.6b"), a path, "digits" (1.7 million weights that
            come along, for examples), or "embedded" (the model of the extra `offline`). None takes
            $AURICLE_MODEL, else the default model if it is in the local cache, else the embedded
            model if installed, else the default from the hub.
        device: "auto", "cpu", "cuda" or "cuda:N".
        precision: "auto", "fp32", "bf16" or "fp16"; Whisper also takes "int8".
        head: "ctc", "rnnt" or "tdt" for hybrid checkpoints.
        engine: "auto" goes by the checkpoint's family.
        revision: A branch, tag or commit of the hub repository.
        local_only: Never use the network.

    Raises:
        ModelNotFound: No such model; the message names the nearest known ones.
        CheckpointError: The checkpoint is damaged, unsafe, or of a family that is not run here.
        ConfigError: An option that this model cannot honour.
        MissingExtra: The model needs an optional package; the message says how to install it.
    """
    chosen = _default() if name is None else str(name)
    folder = locate(chosen, revision=revision, local_only=local_only)
    is_whisper = whisper.folder_kind(folder) is not None
    if engine != "auto" and (engine == "whisper") != is_whisper:
        raise ConfigError(f"{chosen} does not run on the engine {engine!r}: leave engine= out")
    label = embedded.NAME if chosen == EMBEDDED else chosen
    if is_whisper:
        if head is not None:
            raise ConfigError(f"{label} is a Whisper model and has no head {head!r}")
        from auricle.engines.whisper import WhisperEngine

        return Recognizer(WhisperEngine(folder, name=label, device=device, precision=precision))
    from auricle.engines.torch import TorchEngine

    checkpoint = checkpoints.load(folder, name=label)
    return Recognizer(TorchEngine(checkpoint, device=device, precision=precision, head=head))


def locate(name: str, *, revision: str | None = None, local_only: bool = False) -> Path:
    """The file or folder of any model that `load` takes by name, downloaded if need be.

    Raises:
        ModelNotFound, CheckpointError, MissingExtra: As for `load`.
    """
    if name == EMBEDDED:
        return embedded.folder()
    path = hub.resolve(name, revision=revision, local_only=local_only)
    of_run = path / RUN_MODEL
    return path if whisper.folder_kind(of_run) is None else of_run


def _default() -> str:
    """The model when none was named; says once which, and why."""
    chosen, reason = _choose()
    _say_once(f"auricle: using {chosen} ({reason})")
    return chosen


def _choose() -> tuple[str, str]:
    if named := os.environ.get("AURICLE_MODEL"):
        return named, "named by $AURICLE_MODEL"
    if hub.is_cached(DEFAULT_MODEL):
        return DEFAULT_MODEL, "the default, found in the local cache"
    if not embedded.installed():
        return DEFAULT_MODEL, "the default, from the hub"
    return EMBEDDED, f"{DEFAULT_MODEL} is not in the local cache; name a model to take another"


@functools.cache
def _say_once(message: str) -> None:
    log.warning(message)
