//! Leave-one-out credit: a reader on a gist without each of its blocks, against plain forward passes over whole rows.

use crate::common::*;
use gist::compressor::actions::Trajectory;
use gist::data::Window;
use gist::eval::gates::logits;
use gist::model::decoder::Decoder;
use gist::model::lora::ActiveAdapter;
use gist::model::read::control;
use gist::reading::{Reading, Taught};
use gist::rollout::{Group, without_blocks};
use tch::{Kind, Tensor};

const BLOCK: usize = 4;

/// log p `[F, V]` of the future after `context` and the local window, one plain pass.
fn future(decoder: &Decoder, adapter: Option<&ActiveAdapter>, context: &[u32], window: &Window) -> Tensor {
    let whole = [context, &window.probe().local, &window.probe().future].concat();
    let future = window.probe().future.len() as i64;
    let all = logits(decoder, &row(&whole), &[0], adapter).unwrap().squeeze_dim(0);
    all.narrow(0, whole.len() as i64 - future - 1, future).log_softmax(-1, Kind::Double)
}

#[test]
fn each_block_is_left_out_of_its_own_gist() {
    let _guard = tch::no_grad_guard();
    let decoder = decoder(3);
    let reader = adapter(&decoder, 4);
    let active = decoder.activate(&reader, false).unwrap();
    let window = |seed: u64| Window::new([0, 0], ids(12, 48, seed), ids(5, 48, seed + 1), ids(6, 48, seed + 2));
    let windows = [window(10), window(20)];
    let taught = Taught::new(&decoder, &windows).unwrap();
    // Two blocks of which one is short; one block; one block that is whole; nothing.
    let gists = [vec![ids(6, 48, 1), ids(3, 48, 2)], vec![ids(4, 48, 3), Vec::new()]];
    let unread = Reading { kl: f64::NAN, nll: f64::NAN, top1_agreement: f64::NAN };
    let group = |gists: &Vec<Vec<u32>>| Group {
        gists: gists.iter().map(|ids| Trajectory { ids: ids.clone(), ended: true, ..Trajectory::default() }).collect(),
        readings: vec![unread; gists.len()],
        prefix_tokens: 12,
        empty: unread,
        recent: None,
    };
    let groups: Vec<Group> = gists.iter().map(group).collect();
    let found = without_blocks(&decoder, &active, &taught, &groups, BLOCK).unwrap();
    let shape: Vec<Vec<usize>> = found.iter().map(|group| group.iter().map(Vec::len).collect()).collect();
    assert_eq!(shape, [[2, 1], [1, 0]]);
    for ((window, gists), found) in windows.iter().zip(&gists).zip(&found) {
        let teacher = future(&decoder, None, &window.prefix, window);
        for (gist, found) in gists.iter().zip(found) {
            for (block, reading) in found.iter().enumerate() {
                let mut left: Vec<u32> = Vec::new();
                left.extend(gist.iter().enumerate().filter(|(at, _)| at / BLOCK != block).map(|(_, id)| id));
                if !left.is_empty() {
                    left.push(control::separator(VOCAB));
                }
                let reader = future(&decoder, Some(&active), &left, window);
                let kl =
                    (teacher.exp() * (&teacher - &reader)).sum_dim_intlist([-1i64].as_slice(), false, Kind::Double);
                let expected = kl.mean(Kind::Double).double_value(&[]);
                assert!((reading.kl - expected).abs() < 1e-5, "block {block} of {gist:?}: {} {expected}", reading.kl);
            }
        }
    }
    assert!((found[0][0][0].kl - found[0][0][1].kl).abs() > 1e-4, "blocks are worth different amounts");
}
