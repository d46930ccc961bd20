"""Which NeMo class a configuration is of, and what the classes that Auricle does not run are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from auricle.config import shown_name
from auricle.errors import CheckpointError

CTC_CLASSES = ("EncDecCTCModel", "EncDecCTCModelBPE")
TRANSDUCER_CLASSES = ("EncDecRNNTModel", "EncDecRNNTBPEModel", "EncDecRNNTBPEEOUModel")
HYBRID_CLASSES = (
    "EncDecHybridRNNTCTCModel",
    "EncDecHybridRNNTCTCBPEModel",
    "EncDecHybridRNNTCTCBPEEOUModel",
)
PROMPT_CLASSES = ("EncDecRNNTBPEModelWithPrompt", "EncDecHybridRNNTCTCBPEModelWithPrompt")
CLASSES = (*CTC_CLASSES, *TRANSDUCER_CLASSES, *HYBRID_CLASSES, *PROMPT_CLASSES)

_AED = "an attention encoder-decoder (Canary) model"
_DIAR = "a speaker diarisation model"
_SSL = "a self-supervised encoder without a head"
_VAD = "an audio classification (voice activity or command) model"
# What NeMo's other classes are, by a part of the class name.
FOREIGN_CLASSES = {
    "MultiTask": _AED,
    "TransfModel": "an attention encoder-decoder (Transformer) model",
    "SALM": "a speech language model (SALM)",
    "SpeechLM": "a speech language model (SALM)",
    "DuplexS2S": "a speech-to-speech model",
    "SpeakerLabel": "a speaker verification model",
    "Sortformer": _DIAR,
    "Diar": _DIAR,
    "MultiTalker": "a multi-talker model",
    "Frame": _VAD,
    "Classification": _VAD,
    "SelfSupervised": _SSL,
    "MaskedTokenPred": _SSL,
    "Ensemble": "an ensemble of several models",
    "K2": "a k2 graph-loss model",
    "SLU": "a spoken language understanding model",
    "WithTTS": "a model trained with a synthesiser inside",
    "AudioToAudio": "an audio enhancement model",
    "Enhancement": "an audio enhancement model",
    "Codec": "an audio codec",
}
# The same families known by the pieces they have, where the class is not named.
FOREIGN_PIECES = {
    "transf_decoder": _AED,
    "transf_encoder": _AED,
    "head": _AED,
    "perception": "a speech language model (SALM)",
    "pretrained_llm": "a speech language model (SALM)",
    "sortformer_modules": _DIAR,
    "diarizer": _DIAR,
    "decoder_losses": _SSL,
    "quantizer": _SSL,
    "decoder_out": _SSL,
    "msdd_module": _DIAR,
}
FOREIGN_MODULES = {
    "SpeakerDecoder": "a speaker verification model",
    "ConvASRDecoderClassification": _VAD,
    "ConvASRDecoderReconstruction": _SSL,
    "LSTMDecoder": "a CTC model with an LSTM decoder",
    "TransformerDecoder": _AED,
    "HATJoint": "a hybrid autoregressive transducer (HAT)",
    "SqueezeformerEncoder": "a Squeezeformer model",
    "RNNEncoder": "an LSTM-encoder model",
    "Wav2VecEncoderModel": "a wav2vec model",
    "AudioToMFCCPreprocessor": "a model on MFCC features",
    "ConformerMultiLayerFeaturePreprocessor": _SSL,
    "ConformerMultiLayerFeatureExtractor": _SSL,
    "MultiSoftmaxDecoder": _SSL,
}


def family_of(values: Mapping[str, Any], where: str) -> str:
    """The NeMo class that runs this configuration.

    Raises:
        CheckpointError: It is a family that Auricle does not run; the message says which.
    """
    _refuse_variants(values, where)
    name = str(values.get("target") or values.get("_target_") or "").rpartition(".")[2]
    if name in CLASSES:
        _refuse_modules(values, where)
        return name
    for part, kind in FOREIGN_CLASSES.items():
        if part in name:
            raise foreign(where, kind, name)
    for piece, kind in FOREIGN_PIECES.items():
        if values.get(piece):
            raise foreign(where, kind, name or f"it has a {piece}")
    _refuse_modules(values, where)
    if name:
        raise foreign(where, "of a family it does not know", name)
    if "encoder" not in values or "decoder" not in values:
        raise foreign(where, "no recogniser", "it has no encoder and decoder")
    bpe = "BPE" if values.get("tokenizer") else ""
    if values.get("aux_ctc"):
        return f"EncDecHybridRNNTCTC{bpe}Model"
    if values.get("joint"):
        return f"EncDecRNNT{bpe}Model"
    return f"EncDecCTCModel{bpe}"


def module_name(values: Mapping[str, Any]) -> str:
    """The class a section's `_target_` names, without its module."""
    return str(values.get("_target_", "")).rpartition(".")[2]


def _refuse_variants(values: Mapping[str, Any], where: str) -> None:
    """What changes the networks of families that are run."""

    def said(path: str) -> Any:
        node: Any = values
        for key in path.split("."):
            node = node.get(key) if isinstance(node, Mapping) else None
        return node

    if isinstance(adapters := said("adapters"), Mapping) and adapters:
        names = ", ".join(shown_name(key) for key in list(adapters)[:4] if key != "__global__")
        raise CheckpointError(
            f"{where} holds NeMo's adapters ({names}), which Auricle does not run; load the model "
            "they were added to, or train an adapter for it with 'auricle finetune'"
        )
    softmaxes = ("decoder.multisoftmax", "aux_ctc.decoder.multisoftmax", "joint.multilingual")
    for path in softmaxes:
        if said(path):
            raise CheckpointError(
                f"{where} is a model of AI4Bharat's branch of NeMo ({path}: a softmax for each "
                "language), which Auricle does not run; run it with that branch, or take a model "
                "with one vocabulary (auricle models list)"
            )


def _refuse_modules(values: Mapping[str, Any], where: str) -> None:
    for key in ("preprocessor", "encoder", "decoder", "joint"):
        section = values.get(key)
        name = module_name(section) if isinstance(section, Mapping) else ""
        if name in FOREIGN_MODULES:
            raise foreign(where, FOREIGN_MODULES[name], f"its {key} is a {name}")


def foreign(where: str, kind: str, evidence: str) -> CheckpointError:
    """The refusal of a family: what it is, by which evidence, and what is run instead."""
    return CheckpointError(
        f"{where} is {kind} ({shown_name(evidence)}), which Auricle does not run; it runs CTC, "
        "RNNT, TDT and hybrid models "
        "with Conformer, FastConformer, Citrinet, QuartzNet or Jasper encoders"
    )
