//! Adapters by the way in which peft began them: those that leave the base as it is, or that were converted when they were
//! saved, answer what peft answers; those of a changed base are refused. Fixtures: `tests/fixtures/make_init_fixtures.py`.

use crate::common::*;
use gist::eval::gates::{far, logits};
use gist::model::decoder::Decoder;
use gist::model::lora::Adapter;
use gist::model::weights;
use serde_json::Value;
use std::fs;
use tch::{Device, Kind};

fn base() -> Decoder {
    Decoder::load(&fixtures().join("llama-tied"), Device::Cpu, Kind::Float).unwrap()
}

#[test]
fn those_over_the_base_as_it_is_answer_as_peft_does() {
    let (base, folder) = (base(), fixtures().join("peft-inits"));
    let recorded = weights::read(&folder.join("logits.safetensors")).unwrap();
    let ids = &recorded["ids"];
    let without = tch::no_grad(|| logits(&base, ids, &[0], None)).unwrap();
    for way in recorded.keys().filter(|name| *name != "ids") {
        let adapter = base.load_adapter(&folder.join(way)).unwrap_or_else(|e| panic!("{way}: {e}"));
        let active = base.activate(&adapter, false).unwrap();
        let got = tch::no_grad(|| logits(&base, ids, &[0], Some(&active))).unwrap();
        let apart = far(&got, &recorded[way]);
        assert!(apart < 1e-4, "{way}: {apart:e}");
        assert!(far(&without, &recorded[way]) > 1e-2, "{way} does something");
    }
}

#[test]
fn those_of_a_changed_base_are_refused_by_key() {
    let base = base();
    let said = |init: Value| {
        let copy = tempfile::tempdir().unwrap();
        for file in ["adapter_config.json", "adapter_model.safetensors"] {
            fs::copy(fixtures().join("peft-inits/gaussian").join(file), copy.path().join(file)).unwrap();
        }
        let path = copy.path().join("adapter_config.json");
        let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        config["init_lora_weights"] = init;
        fs::write(&path, config.to_string()).unwrap();
        Adapter::load(copy.path(), base.config(), Device::Cpu).err().map(|error| error.to_string())
    };
    for plain in [true.into(), false.into(), Value::Null, "Gaussian".into(), "eva".into(), "MiCA".into()] {
        assert_eq!(said(plain), None);
    }
    for (init, words) in [
        ("pissa", "whose beginning was subtracted from the base"),
        ("pissa_niter_16", "path_initial_model_for_weight_conversion"),
        ("PiSSA", "whose beginning was subtracted from the base"),
        ("olora", "whose beginning was subtracted from the base"),
        ("corda", "whose beginning was subtracted from the base"),
        ("lora_ga", "whose beginning was subtracted from the base"),
        ("loftq", "LoftQ quantised it"),
        ("newest", "expected true, false or one of [\"eva\", \"gaussian\", \"mica\", \"orthogonal\"], got \"newest\""),
        ("", "expected true, false or one of"),
    ] {
        let said = said(init.into()).unwrap_or_else(|| panic!("{init} is read"));
        assert!(said.contains("adapter_config.json: `init_lora_weights`: ") && said.contains(words), "{init}: {said}");
    }
    assert!(said(3.into()).unwrap().contains("got 3"));
}
