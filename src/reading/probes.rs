//! Several probes of different lengths behind one context: local windows and futures as branches, padded on the right, which
//! nothing before the padding sees.

use crate::data::Window;
use crate::error::{Error, Result};
use crate::model::decoder::Decoder;
use crate::model::lora::ActiveAdapter;
use crate::model::read::{Stem, rows};
use crate::tensor::ids_2d;
use tch::{Device, Tensor};

/// Local windows and futures of windows, padded to one shape: N windows, S probes each, W tokens a branch, F of a future.
pub struct Probes {
    /// Ids of local window and future but its last token, window by window, S of each; one token where a window has fewer.
    tails: Vec<Vec<u32>>,
    /// Tokens of the local window of each.
    locals: Vec<usize>,
    /// Tokens of each future up to its end; 0 where a window has fewer probes.
    pub lengths: Vec<usize>,
    /// S.
    most: usize,
    /// F.
    tokens: usize,
    device: Device,
}

impl Probes {
    /// Whether each window has one probe, and local windows and futures have one length each: one row a window is enough.
    pub fn alike(windows: &[Window]) -> bool {
        let lengths = |window: &Window| (window.probe().local.len(), window.probe().future.len());
        windows.iter().all(|window| window.probes.len() == 1 && lengths(window) == lengths(&windows[0]))
    }

    /// Those of `windows`; an error for an empty local window or future.
    pub fn new(windows: &[Window], decoder: &Decoder) -> Result<Self> {
        let most = windows.iter().map(|window| window.probes.len()).max().unwrap_or(0);
        let tokens =
            windows.iter().flat_map(|window| &window.probes).map(|probe| probe.future.len()).max().unwrap_or(0);
        let ends = decoder.config().end_ids();
        let (mut tails, mut locals, mut lengths) = (Vec::new(), Vec::new(), Vec::new());
        for window in windows {
            for probe in &window.probes {
                if probe.local.is_empty() || probe.future.is_empty() {
                    let got = (probe.local.len(), probe.future.len());
                    return Err(Error::shape(
                        "probe",
                        "a local window and a future of at least one token",
                        format!("{got:?}"),
                    ));
                }
                let end = probe.future.iter().position(|&id| ends.contains(&i64::from(id)));
                let length = end.map_or(probe.future.len(), |end| end + 1);
                tails.push([&probe.local[..], &probe.future[..length - 1]].concat());
                locals.push(probe.local.len());
                lengths.push(length);
            }
            for _ in window.probes.len()..most {
                tails.push(vec![0]);
                locals.push(1);
                lengths.push(0);
            }
        }
        Ok(Self { tails, locals, lengths, most, tokens, device: decoder.device() })
    }

    /// Ids of the futures `[N, S, F]`, padded with 0.
    pub fn futures(&self, windows: &[Window]) -> Result<Tensor> {
        let mut all = Vec::with_capacity(windows.len() * self.most);
        for window in windows {
            for at in 0..self.most {
                let mut future = window.probes.get(at).map_or_else(Vec::new, |probe| probe.future.clone());
                future.resize(self.tokens, 0);
                all.push(future);
            }
        }
        let rows: Vec<&[u32]> = all.iter().map(Vec::as_slice).collect();
        Ok(ids_2d(&rows, self.device)?.view([windows.len() as i64, self.most as i64, self.tokens as i64]))
    }

    /// Probes of a window, by their place in the lists.
    fn of(&self, window: usize) -> std::ops::Range<usize> {
        window * self.most..(window + 1) * self.most
    }

    /// Hidden states `[R, S * F, H]` from which the futures of rows (window, context) are predicted.
    pub fn hidden(
        &self,
        decoder: &Decoder,
        adapter: Option<&ActiveAdapter>,
        contexts: &[(usize, Vec<u32>)],
    ) -> Result<Tensor> {
        let is_read = |row: &usize| !contexts[*row].1.is_empty() || !decoder.begin().is_empty();
        let (filled, empty): (Vec<usize>, Vec<usize>) = (0..contexts.len()).partition(is_read);
        let mut parts = Vec::new();
        if !filled.is_empty() {
            parts.push(self.behind(decoder, adapter, filled.iter().map(|&row| &contexts[row]))?);
        }
        if !empty.is_empty() {
            parts.push(self.alone(decoder, adapter, empty.iter().map(|&row| contexts[row].0))?);
        }
        let all = Tensor::cat(&parts, 0);
        let order = [filled, empty].concat();
        if order.is_sorted() {
            return Ok(all);
        }
        let mut place = vec![0i64; order.len()];
        order.iter().enumerate().for_each(|(at, &row)| place[row] = at as i64);
        Ok(all.index_select(0, &Tensor::from_slice(&place).to_device(self.device)))
    }

    /// Hidden states behind contexts of at least one token each, which are read once.
    fn behind<'c>(
        &self,
        decoder: &Decoder,
        adapter: Option<&ActiveAdapter>,
        contexts: impl Iterator<Item = &'c (usize, Vec<u32>)>,
    ) -> Result<Tensor> {
        let (windows, whole): (Vec<usize>, Vec<Vec<u32>>) = contexts.cloned().unzip();
        let stem = Stem::read(decoder, adapter, &whole)?;
        let own: Vec<usize> = windows.iter().flat_map(|&window| self.of(window)).collect();
        let width = own.iter().map(|&probe| self.tails[probe].len()).max().unwrap_or(1);
        let padded: Vec<Vec<u32>> = own.iter().map(|&probe| padded(&self.tails[probe], width)).collect();
        let ids: Vec<&[u32]> = padded.iter().map(Vec::as_slice).collect();
        let ids = ids_2d(&ids, self.device)?.view([windows.len() as i64, self.most as i64, width as i64]);
        let hidden = decoder.branches(&ids, &stem.cache, None, adapter)?;
        self.picked(&hidden, &own, |probe| self.locals[probe] - 1, width)
    }

    /// Hidden states behind nothing.
    fn alone(
        &self,
        decoder: &Decoder,
        adapter: Option<&ActiveAdapter>,
        windows: impl Iterator<Item = usize>,
    ) -> Result<Tensor> {
        let own: Vec<usize> = windows.flat_map(|window| self.of(window)).collect();
        let tails: Vec<Vec<u32>> = own.iter().map(|&probe| self.tails[probe].clone()).collect();
        let (ids, pad) = rows(decoder, &tails)?;
        let hidden = decoder.forward(&ids, &pad, adapter)?;
        let width = ids.size()[1] as usize;
        self.picked(&hidden, &own, |probe| width - self.tails[probe].len() + self.locals[probe] - 1, width)
    }

    /// F hidden states of each probe out of `width`, from the place `first` on: `[R, S * F, H]`.
    fn picked(&self, hidden: &Tensor, own: &[usize], first: impl Fn(usize) -> usize, width: usize) -> Result<Tensor> {
        let h = *hidden.size().last().unwrap_or(&0);
        let mut places = Vec::with_capacity(own.len() * self.tokens);
        for (at, &probe) in own.iter().enumerate() {
            let first = first(probe);
            // Places behind a future count nowhere.
            places.extend((0..self.tokens).map(|token| (at * width + (first + token).min(width - 1)) as i64));
        }
        let places = Tensor::from_slice(&places).to_device(self.device);
        let rows = (own.len() / self.most) as i64;
        Ok(hidden.reshape([-1, h]).index_select(0, &places).view([rows, (self.most * self.tokens) as i64, h]))
    }
}

fn padded(ids: &[u32], width: usize) -> Vec<u32> {
    let mut ids = ids.to_vec();
    ids.resize(width, 0);
    ids
}
