//! Ranges of a long prefix: the windows in which it is read, and what its units are made of of what was read.

use std::ops::Range;
use tch::{Kind, Tensor};

/// Means `[U, D]` of the rows `[P, D]` in each range.
pub fn range_means(rows: &Tensor, units: &[Range<usize>]) -> Tensor {
    let sums = rows.to_kind(Kind::Double).cumsum(0, Kind::Double);
    let sums = Tensor::cat(&[Tensor::zeros([1, rows.size()[1]], (Kind::Double, rows.device())), sums], 0);
    let at = |places: Vec<i64>| sums.index_select(0, &Tensor::from_slice(&places).to_device(rows.device()));
    let total = at(units.iter().map(|u| u.end as i64).collect()) - at(units.iter().map(|u| u.start as i64).collect());
    let lengths: Vec<f64> = units.iter().map(|unit| unit.len() as f64).collect();
    (total / Tensor::from_slice(&lengths).to_device(rows.device()).unsqueeze(-1)).to_kind(Kind::Float)
}

/// The first `width` of the values `[P]` in each range, `[U, width]`; a shorter range repeats its last value.
pub fn range_columns(values: &Tensor, units: &[Range<usize>], width: usize) -> Tensor {
    let places = units.iter().flat_map(|unit| (0..width).map(|at| (unit.start + at).min(unit.end - 1) as i64));
    let places = Tensor::from_slice(&places.collect::<Vec<_>>()).to_device(values.device());
    values.index_select(0, &places).view([units.len() as i64, width as i64])
}

/// Windows of at most `room` tokens over `len`, a quarter of each shared with the next, and what counts of each: every
/// token once, where it stands farther from an edge.
pub fn windows(len: usize, room: usize) -> Vec<(Range<usize>, Range<usize>)> {
    let room = room.max(1);
    if len <= room {
        return vec![(0..len, 0..len)];
    }
    let stride = room - room / 4;
    let mut starts: Vec<usize> = (0..len - room).step_by(stride).collect();
    starts.push(len - room);
    let edge = |i: usize| match i {
        0 => 0,
        i if i == starts.len() => len,
        i => (starts[i] + starts[i - 1] + room) / 2,
    };
    (0..starts.len()).map(|i| (starts[i]..starts[i] + room, edge(i)..edge(i + 1))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::to_vec;

    #[test]
    fn windows_count_every_token_once() {
        for (len, room) in [(0, 5), (5, 5), (6, 5), (100, 7), (1000, 256), (9, 1)] {
            let all = windows(len, room);
            assert!(all.iter().all(|(window, counts)| window.len() <= room && window.start <= counts.start));
            assert!(all.iter().all(|(window, counts)| counts.end <= window.end), "{len} {room} {all:?}");
            assert_eq!(all.iter().flat_map(|(_, counts)| counts.clone()).collect::<Vec<_>>(), Vec::from_iter(0..len));
        }
    }

    #[test]
    fn columns_are_the_heads_of_each_unit() {
        let values = Tensor::from_slice(&[1.0f32, 5.0, 3.0]);
        let columns = range_columns(&values, &[0..1, 0..3, 1..3], 2);
        assert_eq!(to_vec(&columns).unwrap_or_default(), [1.0, 1.0, 1.0, 5.0, 5.0, 3.0]);
        let whole = range_columns(&values, &[0..1, 0..3, 1..3], 3).amax([1i64].as_slice(), false);
        assert_eq!(to_vec(&whole).unwrap_or_default(), [1.0, 5.0, 5.0]);
    }

    #[test]
    fn means_are_of_each_unit() {
        let rows = Tensor::from_slice(&[1.0f32, 2.0, 3.0, 10.0, 20.0, 30.0]).view([3, 2]);
        let means = range_means(&rows, &[0..1, 0..3, 1..3]);
        assert_eq!(to_vec(&means).unwrap_or_default(), [1.0, 2.0, 8.0, 14.0, 11.5, 20.0].map(f64::from));
    }
}
