//! Controls of the distortion: the whole prefix costs nothing, nothing is the local window alone.

use crate::support::*;
use gist::data::Window;
use gist::rollout::{Taught, reader_context};
use tch::{Kind, Tensor};

fn windows() -> Vec<Window> {
    (0..5)
        .map(|i| Window {
            document: 0,
            start: 0,
            prefix: ids(20, 48, 100 + i),
            local: ids(4, 48, 200 + i),
            future: ids(6, 48, 300 + i),
        })
        .collect()
}

#[test]
fn the_whole_prefix_as_gist_loses_nothing() {
    let (decoder, windows) = (decoder(8), windows());
    let taught = Taught::new(&decoder, &windows).unwrap();
    let rows: Vec<(usize, &[u32])> = windows.iter().enumerate().map(|(i, w)| (i, w.prefix.as_slice())).collect();
    for reading in taught.measure(&decoder, None, &rows).unwrap() {
        assert_eq!((reading.kl, reading.top1_agreement), (0.0, 1.0));
    }
}

#[test]
fn the_empty_gist_is_the_local_window_alone() {
    let (decoder, windows) = (decoder(8), windows());
    let taught = Taught::new(&decoder, &windows).unwrap();
    assert!(reader_context(&[], true, VOCAB).is_empty(), "no separator after nothing");
    // Measured in one batch with longer contexts, so that its rows are padded.
    let mut rows: Vec<(usize, &[u32])> = vec![(1, &windows[1].prefix[..7])];
    rows.extend((0..windows.len()).map(|i| (i, &[] as &[u32])));
    let readings = taught.measure(&decoder, None, &rows).unwrap();
    for (w, reading) in windows.iter().zip(&readings[1..]) {
        let future = w.future.len() as i64;
        let logp = |context: &[u32]| {
            let whole = [context, &w.local, &w.future].concat();
            let hidden = decoder.forward(&row(&whole), &[0], None).unwrap().squeeze_dim(0);
            let read = hidden.narrow(0, whole.len() as i64 - future - 1, future);
            read.matmul(&decoder.head().tr()).log_softmax(-1, Kind::Float)
        };
        let (p, q) = (logp(&w.prefix), logp(&[]));
        let kl = (p.exp() * (&p - &q)).sum(Kind::Float).double_value(&[]) / future as f64;
        assert!(kl > 0.01);
        assert!((reading.kl - kl).abs() < 1e-5, "{} {kl}", reading.kl);
        let truth = Tensor::from_slice(&w.future.iter().map(|&id| id as i64).collect::<Vec<_>>());
        let nll = -q.gather(1, &truth.unsqueeze(1), false).mean(Kind::Float).double_value(&[]);
        assert!((reading.nll - nll).abs() < 1e-5);
    }
}
