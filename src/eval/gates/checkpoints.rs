//! Checkpoints against transformers and peft: logits in float32 and bfloat16, greedy continuations; and each against itself:
//! rows in a padded batch, a growing cache, branches of a shared prefix. Answers were recorded by `make_fixtures.py`,
//! `make_decoder_fixtures.py` and `make_base_fixture.py` in `tests/fixtures`.

use crate::config::parts::Sampling;
use crate::error::{Error, Result};
use crate::eval::gates::gate::{Gate, GatePlace, far, logits, worse};
use crate::model::decoder::Decoder;
use crate::model::lora::{ActiveAdapter, Adapter};
use crate::model::read::{Stem, left_pad};
use crate::model::site::BranchCache;
use crate::model::{weights, write};
use crate::rng::{self, Stream};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};

/// Recorded answers for rows of ids that are padded on the left.
pub struct Recorded {
    path: PathBuf,
    all: BTreeMap<String, Tensor>,
    /// Padding and real tokens of each row.
    rows: Vec<(i64, i64)>,
}

impl Recorded {
    /// Reads a file with `ids` and `mask`.
    pub fn read(path: &Path) -> Result<Self> {
        let mut found = Self { path: path.to_path_buf(), all: weights::read(path)?, rows: Vec::new() };
        let (width, mask) = (found.get("ids")?.size2()?.1, found.get("mask")?);
        let real = Vec::<i64>::try_from(&mask.sum_dim_intlist([-1i64].as_slice(), false, Kind::Int64))?;
        found.rows = real.into_iter().map(|real| (width - real, real)).collect();
        Ok(found)
    }

    /// Tensor that was recorded under a name.
    pub fn get(&self, name: &str) -> Result<&Tensor> {
        self.all.get(name).ok_or_else(|| Error::file(&self.path, format!("expected a tensor `{name}`, got none")))
    }

    /// The rows without their padding.
    fn prompts(&self) -> Result<Vec<Vec<u32>>> {
        let ids = self.get("ids")?;
        let row = |(i, &(pad, real)): (usize, &(i64, i64))| -> Result<Vec<u32>> {
            let row = Vec::<i64>::try_from(&ids.get(i as i64).narrow(0, pad, real))?;
            Ok(row.into_iter().map(|id| id as u32).collect())
        };
        self.rows.iter().enumerate().map(row).collect()
    }

    /// Logits of all rows in one padded batch, and the real positions of each row, one row after the other.
    fn batch(&self, decoder: &Decoder, adapter: Option<&ActiveAdapter>) -> Result<Tensor> {
        let pad: Vec<i64> = self.rows.iter().map(|(pad, _)| *pad).collect();
        Ok(self.real(&logits(decoder, self.get("ids")?, &pad, adapter)?))
    }

    /// Logits of each row read alone.
    fn alone(&self, decoder: &Decoder, adapter: Option<&ActiveAdapter>) -> Result<Tensor> {
        let ids = self.get("ids")?;
        let row = |(i, &(pad, real)): (usize, &(i64, i64))| -> Result<Tensor> {
            Ok(logits(decoder, &ids.narrow(0, i as i64, 1).narrow(1, pad, real), &[0], adapter)?.squeeze_dim(0))
        };
        Ok(Tensor::cat(&self.rows.iter().enumerate().map(row).collect::<Result<Vec<_>>>()?, 0))
    }

    /// The real positions of `[N, T, V]`, one row after the other.
    fn real(&self, all: &Tensor) -> Tensor {
        let row = |(i, &(pad, real)): (usize, &(i64, i64))| all.get(i as i64).narrow(0, pad, real);
        Tensor::cat(&self.rows.iter().enumerate().map(row).collect::<Vec<_>>(), 0)
    }

    /// Distance of the logits from those recorded under `name`, in a padded batch or alone, whichever is farther.
    pub fn distance(&self, decoder: &Decoder, adapter: Option<&ActiveAdapter>, name: &str) -> Result<f64> {
        let expected = self.real(self.get(name)?);
        Ok(worse(far(&self.batch(decoder, adapter)?, &expected), far(&self.alone(decoder, adapter)?, &expected)))
    }

    /// Squared distance of the logits from those that transformers rounds to bfloat16, as a share of how far these are
    /// themselves from float32.
    pub fn rounding(&self, decoder: &Decoder, name: &str) -> Result<f64> {
        let squares = |a: &Tensor, b: &Tensor| (a - b).square().sum(Kind::Double).double_value(&[]);
        let ours = self.batch(decoder, None)?.to_device(Device::Cpu);
        let theirs = self.real(self.get(&format!("{name}.bfloat16"))?).to_kind(Kind::Float);
        Ok(squares(&ours, &theirs) / squares(&theirs, &self.real(self.get(name)?)))
    }

    /// Tokens of the greedy continuations of all rows, two branches each, that are not the recorded ones.
    pub fn greedy(&self, decoder: &Decoder, name: &str) -> Result<f64> {
        let expected = self.get(&format!("{name}.greedy"))?;
        let tokens = expected.size2()?.1 as usize;
        let draws = |_: usize, _: usize| vec![0.5; tokens];
        let prompts = Stem::read(decoder, None, &self.prompts()?)?;
        let wanted = write::Continuation { samples: 2, tokens, how: &Sampling::greedy(), forbidden: &[] };
        let made = write::continuations(decoder, &prompts, wanted, draws)?;
        let differ = made.to_device(Device::Cpu).ne_tensor(&expected.unsqueeze(1));
        Ok(differ.sum(Kind::Double).double_value(&[]))
    }
}

/// Distances between the ways in which one model may read the same tokens.
pub struct Ways {
    /// A row in a padded batch from the row alone.
    pub padded: f64,
    /// Branches that grow token by token, and two by two, from branches read at once.
    pub cached: f64,
    /// Branches of a shared prefix from whole rows.
    pub shared: f64,
}

/// Reads prefixes of 11, 1 and 4 tokens with three branches of 6 tokens each, and an adapter's control tokens among them, in
/// every way.
pub fn ways(decoder: &Decoder, adapter: Option<&ActiveAdapter>) -> Result<Ways> {
    let _guard = tch::no_grad_guard();
    const LENGTHS: [usize; 3] = [11, 1, 4];
    const G: usize = 3;
    const T: usize = 6;
    let limit = decoder.config().vocab_size as usize + if adapter.is_some() { 3 } else { 0 };
    let draw = |length: usize, seed: u64| -> Vec<u32> {
        let mut draw = rng::rng(seed, Stream::Data, 0, 0, 0);
        (0..length).map(|_| rng::below(&mut draw, limit) as u32).collect()
    };
    let row = |ids: &[u32]| Tensor::from_slice(&ids.iter().map(|&id| i64::from(id)).collect::<Vec<_>>()).unsqueeze(0);
    let alone = |ids: &[u32]| -> Result<Tensor> { Ok(decoder.forward(&row(ids), &[0], adapter)?.squeeze_dim(0)) };
    let prefixes: Vec<Vec<u32>> = LENGTHS.iter().zip(0..).map(|(&length, seed)| draw(length, seed)).collect();
    let own: Vec<Vec<u32>> = (0..LENGTHS.len() * G).map(|b| draw(T, 10 + b as u64)).collect();
    let (ids, pad) = left_pad(&prefixes)?;
    let (together, cache) = decoder.prefill(&ids, &pad, adapter)?;
    let written = row(&own.concat()).view([LENGTHS.len() as i64, G as i64, T as i64]);
    let at_once = decoder.branches(&written, &cache, None, adapter)?; // [N, G, T, H]
    let mut ways = Ways { padded: 0.0, cached: 0.0, shared: 0.0 };
    for step in [1, 2] {
        let mut grown = BranchCache::new(T);
        let mut parts = Vec::new();
        for start in (0..T).step_by(step) {
            let next = written.narrow(2, start as i64, step as i64);
            parts.push(decoder.branches(&next, &cache, Some(&mut grown), adapter)?);
        }
        ways.cached = worse(ways.cached, far(&Tensor::cat(&parts, 2), &at_once));
    }
    for (n, prefix) in prefixes.iter().enumerate() {
        let real = together.get(n as i64).narrow(0, pad[n], prefix.len() as i64);
        ways.padded = worse(ways.padded, far(&real, &alone(prefix)?));
        for g in 0..G {
            let whole = alone(&[prefix.as_slice(), &own[n * G + g]].concat())?;
            let branch = at_once.get(n as i64).get(g as i64);
            ways.shared = worse(ways.shared, far(&branch, &whole.narrow(0, prefix.len() as i64, T as i64)));
        }
    }
    Ok(ways)
}

/// The folders of `tests/fixtures/decoders` by name.
pub fn decoders(root: &Path) -> Result<Vec<(String, PathBuf)>> {
    let folder = root.join("tests/fixtures/decoders");
    let entries = std::fs::read_dir(&folder).map_err(|e| Error::io(&folder, e))?;
    let paths = entries.map(|entry| entry.map(|e| e.path())).collect::<std::io::Result<Vec<_>>>();
    let mut paths = paths.map_err(|e| Error::io(&folder, e))?;
    paths.retain(|path| path.join("config.json").is_file());
    paths.sort();
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(paths.into_iter().map(|path| (name(&path), path)).collect())
}

/// All gates on checkpoints.
pub fn gates(place: GatePlace) -> Result<Vec<Gate>> {
    let fixtures = place.root.join("tests/fixtures");
    let load = |folder: &Path| Decoder::load(folder, place.device, place.kind);
    let mut gates = Vec::new();
    let mut worst: [(f64, String); 3] = Default::default();
    let mut compare = |decoder: &Decoder, adapter: Option<&ActiveAdapter>, name: &str| -> Result<()> {
        let found = ways(decoder, adapter)?;
        for (worst, found) in worst.iter_mut().zip([found.padded, found.cached, found.shared]) {
            if worst.1.is_empty() || !worst.0.is_nan() && (found.is_nan() || found > worst.0) {
                *worst = (found, name.to_string());
            }
        }
        Ok(())
    };
    let record = Recorded::read(&fixtures.join("decoders.safetensors"))?;
    for (name, folder) in decoders(place.root)? {
        let decoder = load(&folder)?;
        if place.is_exact() {
            let distance = record.distance(&decoder, None, &name)?;
            gates.push(place.gate("logits = transformers", &name, distance, LOGITS));
            gates.push(place.gate("greedy tokens unlike transformers", &name, record.greedy(&decoder, &name)?, NONE));
        } else {
            let rounding = record.rounding(&decoder, &name)?;
            gates.push(place.gate("logits / its own rounding", &name, rounding, (f64::NAN, 2.0)));
        }
        compare(&decoder, None, &name)?;
    }
    let record = Recorded::read(&fixtures.join("logits.safetensors"))?;
    for (name, adapted) in [("untied", None), ("tied", Some("peft-lora"))] {
        let decoder = load(&fixtures.join(format!("llama-{name}")))?;
        gates.push(place.gate("logits = transformers", name, record.distance(&decoder, None, name)?, LOGITS));
        let Some(folder) = adapted else { continue };
        let adapter = Adapter::load(&fixtures.join(folder), decoder.config(), place.device)?;
        let active = decoder.activate(&adapter, false)?;
        let distance = record.distance(&decoder, Some(&active), "tied_lora")?;
        gates.push(place.gate("logits = peft", "tied_lora", distance, LOGITS));
        compare(&decoder, Some(&active), "tied_lora")?;
    }
    let base = load(&place.root.join("checkpoints/code-4m"))?;
    let path = fixtures.join("code-4m-logits.safetensors");
    let shipped = weights::read(&path)?;
    let named = |name: &str| shipped.get(name).ok_or_else(|| Error::file(&path, format!("`{name}` is missing")));
    let (ids, expected) = (named("ids")?, named("logits")?);
    let (t, last) = (ids.size()[0], expected.size()[0]);
    let ours = logits(&base, &ids.unsqueeze(0), &[0], None)?.squeeze_dim(0).narrow(0, t - last, last);
    gates.push(place.gate("logits = transformers", "code-4m", far(&ours, expected), LOGITS));
    compare(&base, None, "code-4m")?;
    let names = ["row in a padded batch = row alone", "growing cache = read at once", "shared prefix = whole rows"];
    gates.extend(names.iter().zip(worst).map(|(name, (measured, on))| place.gate(name, &on, measured, WAYS)));
    Ok(gates)
}

/// Allowed distances in float32 and bfloat16. Sums in another order: up to 5.1e-6 on the CPUs seen so far.
const LOGITS: (f64, f64) = (1e-5, 0.05);
const WAYS: (f64, f64) = (1e-5, 0.05);
const NONE: (f64, f64) = (0.0, f64::NAN);
