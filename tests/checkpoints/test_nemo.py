from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from auricle.checkpoints import build, load, save
from auricle.checkpoints.nemo_archive import CONFIG, WEIGHTS, open_archive
from auricle.checkpoints.nemo_yaml import read_yaml, write_yaml
from auricle.errors import CheckpointError
from auricle.tokenizers import AggregateTokenizer, CharTokenizer
from auricle.training.vocabulary import with_tokenizer

from .archives import gzipped, members_of, pickled, rewritten, state_of, tar_of
from .goldens import NEMO, encoding_error, nemo, recorded

Values = dict[str, Any]


def edited(name: str, target: Path, edit: Callable[[Values], None]) -> Path:
    """A golden archive with its configuration changed."""
    values = read_yaml(members_of(nemo(name))[CONFIG], name)
    edit(values)
    return rewritten(nemo(name), target, config=write_yaml(values))


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "odd.nemo"


@pytest.mark.parametrize("path", NEMO, ids=lambda path: path.stem)
def test_goldens_encode_as_nemo_did(path: Path) -> None:
    results, _ = recorded(path)
    checkpoint = load(path)
    prompt = checkpoint.config.prompt
    number = prompt.languages[results["prompt"]] if prompt else None
    assert encoding_error(checkpoint, path, number) < 1e-4


@pytest.mark.parametrize("path", NEMO, ids=lambda path: path.stem)
def test_goldens_spell_ids_as_nemo_did(path: Path) -> None:
    results, _ = recorded(path)
    checkpoint = load(path)
    heads = [head for head in ("rnnt", "ctc", "aux_ctc") if head in results["phrase"]]
    assert heads
    for name in results["inputs"]:
        for head in heads:
            found = results[name][head]
            if "ids" in found and "text" in found:
                text = checkpoint.tokenizer.decode(found["ids"])
                assert text.replace(" ", "") == found["text"].replace(" ", "")


@pytest.mark.parametrize("path", NEMO, ids=lambda path: path.stem)
@pytest.mark.parametrize("with_origin", [True, False], ids=["yaml kept", "yaml written"])
def test_saved_and_loaded_is_the_same(path: Path, with_origin: bool, tmp_path: Path) -> None:
    checkpoint = load(path)
    if not with_origin:
        checkpoint = dataclasses.replace(checkpoint, origin={})
    save(checkpoint, tmp_path / "one.nemo")
    again = load(tmp_path / "one.nemo")
    assert again.config == checkpoint.config
    assert again.tokenizer.pieces == checkpoint.tokenizer.pieces
    assert type(again.tokenizer) is type(checkpoint.tokenizer)
    assert again.tensors.keys() == checkpoint.tensors.keys()
    assert all(torch.equal(again.tensors[k], v) for k, v in checkpoint.tensors.items())
    save(again, tmp_path / "two.nemo")
    assert (tmp_path / "one.nemo").read_bytes() == (tmp_path / "two.nemo").read_bytes()


@pytest.mark.parametrize("path", NEMO, ids=lambda path: path.stem)
def test_saving_keeps_nemos_own_keys_and_shapes(path: Path, tmp_path: Path) -> None:
    checkpoint = dataclasses.replace(load(path), origin={})
    save(checkpoint, tmp_path / "one.nemo")
    before, after = state_of(path), state_of(tmp_path / "one.nemo")
    assert {k: v.shape for k, v in before.items()} == {k: v.shape for k, v in after.items()}
    assert all(torch.equal(before[key], value) for key, value in after.items())


def test_training_sections_are_kept(tmp_path: Path) -> None:
    def edit(values: Values) -> None:
        values["optim"] = {"name": "adamw", "lr": 1e-3}
        values["train_ds"] = {"manifest_filepath": "${oc.env:DATA}/train.json"}

    save(load(edited("fastconformer_rnnt", tmp_path / "a.nemo", edit)), tmp_path / "b.nemo")
    values = yaml.safe_load(members_of(tmp_path / "b.nemo")[CONFIG])
    assert values["optim"] == {"name": "adamw", "lr": 1e-3}
    assert values["train_ds"] == {"manifest_filepath": "${oc.env:DATA}/train.json"}


def test_yaml_follows_a_changed_model(tmp_path: Path) -> None:
    """The kept YAML must not speak of another vocabulary than the tensors."""
    checkpoint = load(nemo("fastconformer_ctc"))
    size = 7
    config = dataclasses.replace(checkpoint.config, vocab_size=size)
    tensors = {
        key: value[: size + 1] if key.startswith("ctc.") else value
        for key, value in checkpoint.tensors.items()
    }
    changed = dataclasses.replace(
        checkpoint, config=config, tensors=tensors, tokenizer=CharTokenizer(" abcNOn")
    )
    save(changed, tmp_path / "changed.nemo")
    values = yaml.safe_load(members_of(tmp_path / "changed.nemo")[CONFIG])
    assert values["target"].endswith(".EncDecCTCModel")
    assert values["decoder"]["vocabulary"] == list(" abcNOn")
    assert "tokenizer" not in values
    again = load(tmp_path / "changed.nemo")
    assert again.config == config
    assert again.tokenizer.pieces == tuple(" abcNOn")


@pytest.mark.parametrize("path", NEMO, ids=lambda path: path.stem)
def test_only_what_has_changed_is_written_anew(path: Path, tmp_path: Path) -> None:
    checkpoint = load(path)
    before = _flat(checkpoint.origin["nemo"])
    save(checkpoint, tmp_path / "same.nemo")
    features = dataclasses.replace(checkpoint.config.features, dither=0.5)
    config = dataclasses.replace(checkpoint.config, features=features)
    save(dataclasses.replace(checkpoint, config=config), tmp_path / "changed.nemo")
    # Artefacts are named by their content, which sentencepiece's own serialisation changes; NeMo
    # lists the pieces of a WordPiece vocabulary in no order.
    free = ("tokenizer.", "decoder.vocabulary" if path.stem == "conformer_ctc" else "tokenizer.")
    for name, changed in (("same", {}), ("changed", {"preprocessor.dither": 0.5})):
        after = _flat(load(tmp_path / f"{name}.nemo").origin["nemo"])
        differing = {
            key: after.get(key)
            for key in before.keys() | after.keys()
            if before.get(key) != after.get(key) and not key.startswith(free)
        }
        assert differing == changed


def _flat(values: Any, name: str = "") -> dict[str, Any]:
    """The leaves of a configuration by their dotted names."""
    rows = values.items() if isinstance(values, dict) else enumerate(values)
    leaves = {}
    for key, value in rows:
        nested = isinstance(value, dict) or (isinstance(value, list) and key == "jasper")
        leaves.update(_flat(value, f"{name}{key}.") if nested else {f"{name}{key}": value})
    return leaves


@pytest.mark.parametrize("name", ["parakeet_tdt", "hybrid_tdt_ctc"])
def test_a_new_vocabulary_leaves_losses_and_decoding_as_they_were(
    name: str, target: Path, tmp_path: Path
) -> None:
    def edit(values: Values) -> None:
        values["loss"]["tdt_kwargs"].update(sigma=0.07, omega=0.3, fastemit_lambda=0.01)
        values["decoding"]["beam"] = {"beam_size": 7}

    checkpoint = with_tokenizer(
        load(edited(name, target, edit)), load(nemo("streaming_hybrid")).tokenizer, seed=0
    )
    save(checkpoint, tmp_path / "b.nemo")
    values = yaml.safe_load(members_of(tmp_path / "b.nemo")[CONFIG])
    kwargs = values["loss"]["tdt_kwargs"]
    assert (kwargs["sigma"], kwargs["omega"], kwargs["fastemit_lambda"]) == (0.07, 0.3, 0.01)
    assert values["decoding"]["beam"] == {"beam_size": 7}
    again = load(tmp_path / "b.nemo")
    assert again.config == checkpoint.config
    assert again.tokenizer.pieces == checkpoint.tokenizer.pieces


@pytest.mark.parametrize("name", ["parakeet_tdt", "hybrid_tdt_ctc", "fastconformer_ctc"])
@pytest.mark.parametrize("with_yaml", [True, False])
def test_the_losses_of_a_training_are_written(name: str, with_yaml: bool, tmp_path: Path) -> None:
    checkpoint = load(nemo(name))
    loss = {"ctc_weight": 0.45, "reduction": "mean_volume", "sigma": 0.07, "omega": 0.0}
    origin = {**(checkpoint.origin if with_yaml else {}), "loss": loss}
    save(dataclasses.replace(checkpoint, origin=origin), tmp_path / "one")
    save(load(tmp_path / "one"), tmp_path / "two.nemo")
    values = yaml.safe_load(members_of(tmp_path / "two.nemo")[CONFIG])
    if checkpoint.config.transducer is None:
        assert values["ctc_reduction"] == "mean_volume"
        assert "loss" not in values
        return
    assert values["rnnt_reduction"] == "mean_volume"
    kwargs = values["loss"]["tdt_kwargs"]
    assert (kwargs["sigma"], kwargs["omega"]) == (0.07, 0.0)
    assert kwargs["durations"] == list(checkpoint.config.transducer.durations)
    if checkpoint.config.ctc:
        aux = values["aux_ctc"]
        assert (aux["ctc_loss_weight"], aux["ctc_reduction"]) == (0.45, "mean_volume")
    assert load(tmp_path / "two.nemo").config == checkpoint.config


def test_data_sections_that_nemo_looks_into_are_never_null(target: Path, tmp_path: Path) -> None:
    def edit(values: Values) -> None:
        values["validation_ds"] = None
        values.pop("test_ds", None)

    save(load(edited("fastconformer_ctc", target, edit)), tmp_path / "b.nemo")
    values = yaml.safe_load(members_of(tmp_path / "b.nemo")[CONFIG])
    assert values["validation_ds"]["manifest_filepath"] is None
    assert values["test_ds"]


# Odd but honest archives


def test_an_unpacked_folder(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for name, content in members_of(nemo("fastconformer_ctc")).items():
        (folder / name).write_bytes(content)
    checkpoint = load(folder)
    assert checkpoint.name == "model"
    assert encoding_error(checkpoint, nemo("fastconformer_ctc")) < 1e-4


def test_a_folder_around_one_archive(tmp_path: Path) -> None:
    (tmp_path / "x.nemo").write_bytes(nemo("fastconformer_ctc").read_bytes())
    assert load(tmp_path).config == load(nemo("fastconformer_ctc")).config


@pytest.mark.parametrize("compressed", [False, True])
def test_legacy_pickles_and_gzip(target: Path, compressed: bool) -> None:
    name = "fastconformer_rnnt"
    members = members_of(nemo(name))
    members[WEIGHTS] = pickled(state_of(nemo(name)), legacy=True)
    content = tar_of(members, prefix="")
    target.write_bytes(gzipped(content) if compressed else content)
    assert encoding_error(load(target), nemo(name)) < 1e-4


def test_interpolations_and_a_wrapper(target: Path) -> None:
    name = "fastconformer_rnnt"

    def edit(values: Values) -> None:
        inner = dict(values)
        inner["encoder"] = inner["encoder"] | {"feat_in": "${model.preprocessor.features}"}
        inner["model_defaults"] = inner["model_defaults"] | {"joint": 24}
        net = inner["joint"]["jointnet"]
        hidden = net["joint_hidden"]
        inner["model_defaults"]["joint_hidden"] = hidden
        net["joint_hidden"] = "${model.model_defaults.joint_hidden}"
        inner["train_ds"] = {"sample_rate": "${model.sample_rate}", "x": "${nothing}"}
        values.clear()
        values.update(name="x", trainer={"devices": -1}, model=inner)

    checkpoint = load(edited(name, target, edit))
    assert checkpoint.config == load(nemo(name)).config


def test_the_form_before_1_0(target: Path) -> None:
    def edit(values: Values) -> None:
        for key in ("preprocessor", "encoder", "decoder"):
            section = dict(values[key])
            values[key] = {"cls": section.pop("_target_"), "params": section}
        del values["target"]

    checkpoint = load(edited("quartznet_char", target, edit))
    assert checkpoint.config == load(nemo("quartznet_char")).config


@pytest.mark.parametrize(
    "name", ["quartznet_char", "fastconformer_ctc", "conformer_rnnt", "hybrid_tdt_ctc"]
)
def test_a_missing_target_is_guessed(target: Path, name: str) -> None:
    checkpoint = load(edited(name, target, lambda values: values.pop("target")))
    assert checkpoint.config == load(nemo(name)).config


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("fastconformer_rnnt", "EncDecRNNTBPEEOUModel"),
        ("hybrid_rnnt_ctc", "EncDecHybridRNNTCTCBPEEOUModel"),
    ],
)
def test_end_of_utterance_models(target: Path, tmp_path: Path, name: str, family: str) -> None:
    full = f"nemo.collections.asr.models.asr_eou_models.{family}"

    def edit(values: Values) -> None:
        values["target"] = full
        values["token_init_method"] = "min"

    checkpoint = load(edited(name, target, edit))
    assert checkpoint.config == load(nemo(name)).config
    save(checkpoint, tmp_path / "again.nemo")
    assert yaml.safe_load(members_of(tmp_path / "again.nemo")[CONFIG])["target"] == full


def test_the_filterbank_of_torchaudio(target: Path) -> None:
    name = "fastconformer_ctc"
    state = state_of(nemo(name))
    spectrogram = "preprocessor.featurizer._mel_spec_extractor"
    window = state.pop("preprocessor.featurizer.window")
    filterbank = state.pop("preprocessor.featurizer.fb")
    state[f"{spectrogram}.spectrogram.window"] = window
    state[f"{spectrogram}.mel_scale.fb"] = filterbank[0].T.contiguous()
    rewritten(nemo(name), target, weights=pickled(state))
    assert encoding_error(load(target), nemo(name)) < 1e-4


def test_an_absent_filterbank_is_computed(target: Path) -> None:
    name = "fastconformer_ctc"
    state = {k: v for k, v in state_of(nemo(name)).items() if "featurizer" not in k}
    rewritten(nemo(name), target, weights=pickled(state))
    assert encoding_error(load(target), nemo(name)) < 1e-4


def test_position_tables_of_old_files_are_dropped(target: Path) -> None:
    name = "fastconformer_ctc"
    state = state_of(nemo(name)) | {"encoder.pos_enc.pe": torch.zeros(1, 9999, 24)}
    rewritten(nemo(name), target, weights=pickled(state))
    assert "encoder.pos_enc.pe" not in load(target).tensors


def test_a_blank_without_an_embedding(target: Path, tmp_path: Path) -> None:
    name = "fastconformer_rnnt"
    key = "decoder.prediction.embed.weight"
    state = state_of(nemo(name))
    state[key] = state[key][:-1].clone()
    path = edited(name, target, lambda values: values["decoder"].update(blank_as_pad=False))
    rewritten(path, target, weights=pickled(state))
    checkpoint = load(target)
    assert not checkpoint.tensors["predictor.embed.weight"][-1].any()
    save(checkpoint, tmp_path / "again.nemo")
    assert torch.equal(state_of(tmp_path / "again.nemo")[key], state[key])


def test_bfloat16_weights_stay_so_at_rest_and_run_in_float32(target: Path) -> None:
    name = "fastconformer_ctc"
    state = {
        key: value.bfloat16() if value.is_floating_point() and "featurizer" not in key else value
        for key, value in state_of(nemo(name)).items()
    }
    rewritten(nemo(name), target, weights=pickled(state))
    checkpoint = load(target)
    assert checkpoint.tensors["ctc.weight"].dtype == torch.bfloat16
    assert {p.dtype for p in build(checkpoint).parameters()} == {torch.float32}
    half = build(checkpoint, dtype=torch.bfloat16)
    assert {p.dtype for p in half.parameters()} == {torch.bfloat16}
    assert half.features.filterbank.dtype == torch.float32


def test_tied_parameters_stay_tied() -> None:
    model = build(load(nemo("fastconformer_ctc")))
    attention = [layer.self_attn for layer in model.encoder.layers]
    assert not model.config.encoder.untie_biases
    assert all(a.pos_bias_u is attention[0].pos_bias_u for a in attention)


def test_building_does_not_copy_the_file() -> None:
    checkpoint = load(nemo("fastconformer_ctc"))
    model = build(checkpoint)
    assert model.ctc is not None
    assert model.ctc.weight.data_ptr() == checkpoint.tensors["ctc.weight"].data_ptr()
    assert not model.training


def test_aggregate_tokenizers() -> None:
    tokenizer = load(nemo("stateless_rnnt")).tokenizer
    assert isinstance(tokenizer, AggregateTokenizer)
    assert tokenizer.languages == ("en", "es")


# Refusals: one line that names the file, the key, and the cure


def assert_refused(path: Path, *said: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        load(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message or path.stem in message
    for part in said:
        assert part in message, message


@pytest.mark.parametrize(
    ("name", "section", "key", "near"),
    [
        ("fastconformer_ctc", ("encoder",), "n_layerz", "n_layers"),
        ("fastconformer_ctc", ("preprocessor",), "window_sise", "window_size"),
        ("fastconformer_ctc", ("decoder",), "feat_inn", "feat_in"),
        ("fastconformer_ctc", ("tokenizer",), "model_pat", "model_path"),
        ("fastconformer_ctc", (), "encoderr", "encoder"),
        ("fastconformer_rnnt", ("joint",), "log_softmaxx", "log_softmax"),
        ("fastconformer_rnnt", ("joint", "jointnet"), "joint_hiden", "joint_hidden"),
        ("fastconformer_rnnt", ("decoder", "prednet"), "pred_hiden", "pred_hidden"),
        ("hybrid_rnnt_ctc", ("aux_ctc",), "decodr", "decoder"),
        ("hybrid_rnnt_ctc", ("aux_ctc", "decoder"), "num_clases", "num_classes"),
        ("citrinet", ("encoder",), "activatoin", "activation"),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest(
    target: Path, name: str, section: tuple[str, ...], key: str, near: str
) -> None:
    def edit(values: Values) -> None:
        for part in section:
            values = values[part]
        values[key] = 1

    path = edited(name, target, edit)
    assert_refused(path, ".".join((*section, key)), f"nearest known key is {near}")


def test_an_unknown_key_in_a_jasper_block_is_named(target: Path) -> None:
    path = edited(
        "citrinet", target, lambda values: values["encoder"]["jasper"][1].update(kernal=3)
    )
    assert_refused(path, "encoder.jasper.1.kernal", "kernel")


@pytest.mark.parametrize(
    ("section", "key"),
    [("encoder", "d_model"), ("encoder", "n_layers"), ("encoder", "feat_in")],
)
def test_a_missing_key_is_named(target: Path, section: str, key: str) -> None:
    path = edited("fastconformer_ctc", target, lambda values: values[section].pop(key))
    assert_refused(path, f"{section}.{key} is missing")


def test_an_interpolation_that_leads_nowhere_is_named(target: Path) -> None:
    path = edited(
        "fastconformer_ctc", target, lambda values: values["encoder"].update(d_model="${no.where}")
    )
    assert_refused(path, "encoder.d_model", "${no.where}")


@pytest.mark.parametrize(
    "change",
    [
        {"encoder": {"self_attention_model": "quadratic"}},
        {"encoder": {"n_heads": 7}},
        {"preprocessor": {"window": "kaiser"}},
        {"preprocessor": {"features": "many"}},
        {"decoder": {"num_classes": 3}},
        {"decoder": {"add_blank": False}},
    ],
    ids=str,
)
def test_a_value_that_is_none_is_refused(target: Path, change: dict[str, Values]) -> None:
    def edit(values: Values) -> None:
        for section, keys in change.items():
            values[section].update(keys)

    assert_refused(edited("fastconformer_ctc", target, edit))


@pytest.mark.parametrize(
    ("target_class", "said"),
    [
        ("aed_multitask_models.EncDecMultiTaskModel", "Canary"),
        ("label_models.EncDecSpeakerLabelModel", "speaker verification"),
        ("classification_models.EncDecClassificationModel", "voice activity"),
        ("classification_models.EncDecFrameClassificationModel", "voice activity"),
        ("sortformer_diar_models.SortformerEncLabelModel", "diarisation"),
        ("ssl_models.SpeechEncDecSelfSupervisedModel", "self-supervised"),
        ("ssl_models.EncDecMaskedTokenPredModel", "self-supervised"),
        ("transformer_bpe_models.EncDecTransfModelBPE", "attention encoder-decoder"),
        ("multitalker_asr_models.EncDecMultiTalkerRNNTBPEModel", "multi-talker"),
        ("salm.SALM", "speech language model"),
        ("mystery.MysteryModel", "does not know"),
    ],
)
def test_other_families_are_refused_by_name(target: Path, target_class: str, said: str) -> None:
    path = edited(
        "fastconformer_ctc",
        target,
        lambda values: values.update(target=f"nemo.collections.asr.models.{target_class}"),
    )
    assert_refused(path, said, "does not run", "CTC, RNNT, TDT")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"transf_decoder": {"a": 1}}, "Canary"),
        ({"perception": {"a": 1}}, "speech language model"),
        ({"sortformer_modules": {"a": 1}}, "diarisation"),
        ({"decoder_losses": {"a": 1}}, "self-supervised"),
        ({"decoder": {"_target_": "nemo.x.SpeakerDecoder"}}, "speaker verification"),
        ({"decoder": {"_target_": "nemo.x.ConvASRDecoderClassification"}}, "voice activity"),
        ({"encoder": {"_target_": "nemo.x.SqueezeformerEncoder"}}, "Squeezeformer"),
    ],
    ids=str,
)
def test_other_families_are_known_by_their_pieces(target: Path, change: Values, said: str) -> None:
    def edit(values: Values) -> None:
        del values["target"]
        values.update(change)

    assert_refused(edited("fastconformer_ctc", target, edit), said)


def test_multi_blank_transducers_are_refused(target: Path) -> None:
    path = edited(
        "fastconformer_rnnt",
        target,
        lambda values: values["decoding"].update(big_blank_durations=[2, 4]),
    )
    assert_refused(path, "multi-blank")


def test_code_in_the_tokenizer_section_is_refused(target: Path) -> None:
    path = edited(
        "fastconformer_ctc",
        target,
        lambda values: values["tokenizer"].update(custom_tokenizer={"_target_": "os.system"}),
    )
    assert_refused(path, "custom_tokenizer")


def test_a_missing_artefact_is_named(target: Path) -> None:
    members = {
        name: content
        for name, content in members_of(nemo("fastconformer_ctc")).items()
        if not name.endswith("tokenizer.model")
    }
    target.write_bytes(tar_of(members))
    assert_refused(target, "tokenizer.model", "fetch the checkpoint again")


@pytest.mark.parametrize(("member", "name"), [("config", CONFIG), ("weights", WEIGHTS)])
def test_a_missing_member_is_named(target: Path, member: str, name: str) -> None:
    assert_refused(rewritten(nemo("fastconformer_ctc"), target, **{member: None}), name)


def test_tensors_that_do_not_fit_are_named(target: Path) -> None:
    state = state_of(nemo("fastconformer_ctc"))
    del state["encoder.layers.0.norm_out.weight"]
    state["encoder.layers.0.surplus"] = torch.zeros(1)
    state["encoder.pre_encode.out.weight"] = torch.zeros(3, 5)
    path = rewritten(nemo("fastconformer_ctc"), target, weights=pickled(state))
    assert_refused(
        path,
        "1 missing (encoder.layers.0.norm_out.weight)",
        "1 too many (encoder.layers.0.surplus)",
        "encoder.pre_encode.out.weight is [3, 5] and not",
    )


def test_a_hostile_shape_is_refused_before_it_takes_memory(target: Path) -> None:
    state = state_of(nemo("fastconformer_ctc"))
    state["encoder.pre_encode.out.weight"] = torch.zeros(1).expand(10**7, 10**7)
    assert_refused(
        rewritten(nemo("fastconformer_ctc"), target, weights=pickled(state)), "another shape"
    )


def test_the_message_lists_only_the_first_keys(target: Path) -> None:
    state = dict(list(state_of(nemo("fastconformer_ctc")).items())[:5])
    path = rewritten(nemo("fastconformer_ctc"), target, weights=pickled(state))
    with pytest.raises(CheckpointError) as caught:
        load(path)
    assert len(str(caught.value)) < 500


def test_the_configuration_is_refused_before_the_weights_are_read(target: Path) -> None:
    path = edited(
        "fastconformer_ctc", target, lambda values: values.update(target="x.EncDecMultiTaskModel")
    )
    rewritten(path, target, weights=b"not weights")
    assert_refused(target, "Canary")
    with open_archive(target) as archive, pytest.raises(CheckpointError):
        archive.weights()


def test_a_key_that_feeds_an_interpolation_may_be_called_anything(target: Path) -> None:
    def edit(values: Values) -> None:
        values["my_mels"] = values["preprocessor"]["features"]
        values["encoder"]["feat_in"] = "${my_mels}"

    found = load(edited("fastconformer_ctc", target, edit))
    assert found.config == load(nemo("fastconformer_ctc")).config
    path = edited("fastconformer_ctc", target, lambda values: values.update(my_mels=80))
    assert_refused(path, "my_mels")
