//! One value for each projection of a block.

use crate::config::parts::Projection;
use std::ops::Index;

/// A value for every [`Projection`], which is also its index.
pub struct Projections<T>([T; Projection::ALL.len()]);

impl<T> Projections<T> {
    /// Makes a value for each projection, in forward order.
    pub fn from_fn(mut make: impl FnMut(Projection) -> T) -> Self {
        Self(Projection::ALL.map(&mut make))
    }

    /// Makes a value for each projection, in forward order, up to the first error.
    pub fn try_from_fn<E>(mut make: impl FnMut(Projection) -> Result<T, E>) -> Result<Self, E> {
        let [q, k, v, o, gate, up, down] = Projection::ALL;
        Ok(Self([make(q)?, make(k)?, make(v)?, make(o)?, make(gate)?, make(up)?, make(down)?]))
    }
}

impl<T> Index<Projection> for Projections<T> {
    type Output = T;

    fn index(&self, projection: Projection) -> &T {
        &self.0[projection as usize]
    }
}
