//! Optimisers over one flat leaf: AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101) with bias correction and decoupled
//! weight decay, and Muon (Jordan et al. 2024: momentum orthogonalised by Newton–Schulz, for matrices inside the
//! blocks), which pretraining may use. tch can neither save nor load optimiser state, nor does its clipping return the
//! norm; here the state is a few tensors, and every step returns the gradient norm before clipping.

use crate::config::parts::OptimConfig;
use crate::error::{Error, Result};
use crate::model::params::FlatParams;
use std::collections::BTreeMap;
use tch::{Kind, Tensor};

/// Figures of one optimiser step.
#[derive(Clone, Copy, Debug)]
pub struct StepInfo {
    /// Gradient norm before clipping.
    pub grad_norm: f64,
    /// Learning rate used.
    pub lr: f64,
}

/// State of an optimiser over one [`FlatParams`].
pub struct Optimizer {
    config: OptimConfig,
    /// Learning-rate multiple for matrices updated by Muon; none = AdamW for all.
    muon: Option<f64>,
    /// Kind in which Muon's iteration multiplies.
    muon_kind: Kind,
    first: Tensor,
    second: Tensor,
    decay: Tensor,
    matrices: Vec<(i64, Vec<i64>)>,
    adam_mask: Option<Tensor>,
    /// Multiples of the learning rate, as flat as the parameters.
    factors: Option<Tensor>,
    updates: i64,
}

impl Optimizer {
    /// AdamW for every parameter; matrices decay, vectors do not.
    pub fn adamw(config: &OptimConfig, params: &FlatParams) -> Self {
        Self::new(config, params, None)
    }

    /// This optimiser with a multiple of the learning rate for every parameter.
    pub fn with_factors(self, factors: Option<Tensor>) -> Self {
        Self { factors, ..self }
    }

    /// Muon with learning rate `muon_lr` for the matrices inside the blocks, AdamW for the rest. The iteration
    /// multiplies in `kind`: bfloat16 is enough for it, and faster where the machine has it.
    pub fn muon(config: &OptimConfig, params: &FlatParams, muon_lr: f64, kind: Kind) -> Self {
        Self { muon_kind: kind, ..Self::new(config, params, Some(muon_lr / config.lr)) }
    }

    fn new(config: &OptimConfig, params: &FlatParams, muon: Option<f64>) -> Self {
        let leaf = params.leaf();
        let decay = leaf.detach().zeros_like();
        let mask = leaf.detach().ones_like();
        let mut matrices = Vec::new();
        for (name, offset, shape) in params.layout() {
            let len = shape.iter().product();
            if shape.len() > 1 {
                let _ = decay.narrow(0, offset, len).fill_(config.weight_decay);
            }
            if muon.is_some() && shape.len() == 2 && name.contains(".layers.") {
                let _ = mask.narrow(0, offset, len).fill_(0.0);
                matrices.push((offset, shape));
            }
        }
        Self {
            config: config.clone(),
            muon,
            muon_kind: Kind::Float,
            first: leaf.detach().zeros_like(),
            second: leaf.detach().zeros_like(),
            decay,
            adam_mask: muon.is_some().then_some(mask),
            matrices,
            factors: None,
            updates: 0,
        }
    }

    /// Clips the accumulated gradient, updates the parameters and clears the gradient. A gradient that is not finite
    /// changes nothing and is reported as `Ok(Err(norm))`.
    pub fn step(&mut self, params: &FlatParams, lr_factor: f64) -> Result<std::result::Result<StepInfo, f64>> {
        let _guard = tch::no_grad_guard();
        let mut leaf = params.leaf().shallow_clone();
        let mut grad = leaf.grad();
        if !grad.defined() {
            return Err(Error::invalid("optimiser step without a gradient"));
        }
        let grad_norm = grad.norm().double_value(&[]);
        if !grad_norm.is_finite() {
            leaf.zero_grad();
            return Ok(Err(grad_norm));
        }
        if grad_norm > self.config.max_grad_norm {
            let _ = grad.g_mul_scalar_(self.config.max_grad_norm / grad_norm);
        }
        self.updates += 1;
        let (b1, b2) = (self.config.beta1, self.config.beta2);
        let lr = self.config.lr * lr_factor;
        let _ = self.first.lerp_(&grad, 1.0 - b1);
        let _ = self.second.g_mul_scalar_(b2).g_add_(&(grad.square() * (1.0 - b2)));
        let c1 = 1.0 - b1.powi(self.updates as i32);
        let c2 = 1.0 - b2.powi(self.updates as i32);
        let mut update = (&self.first / c1) / ((&self.second / c2).sqrt() + self.config.eps);
        if let (Some(multiple), Some(mask)) = (self.muon, &self.adam_mask) {
            let _ = update.g_mul_(mask);
            for (offset, shape) in &self.matrices {
                let len = shape.iter().product();
                // Nesterov momentum: the moment one step ahead.
                let moment = self.first.narrow(0, *offset, len).lerp(&grad.narrow(0, *offset, len), 1.0 - b1);
                let scale = 0.2 * (shape[0].max(shape[1]) as f64).sqrt() * multiple;
                let direction = orthogonalise(&moment.view(shape.as_slice()), self.muon_kind) * scale;
                update.narrow(0, *offset, len).copy_(&direction.reshape([-1]));
            }
        }
        let _ = update.g_add_(&(&leaf * &self.decay));
        if let Some(factors) = &self.factors {
            let _ = update.g_mul_(factors);
        }
        let _ = leaf.g_sub_(&(update * lr));
        leaf.zero_grad();
        Ok(Ok(StepInfo { grad_norm, lr }))
    }

    /// State to save, by name.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        vec![
            ("first".into(), self.first.copy()),
            ("second".into(), self.second.copy()),
            ("updates".into(), Tensor::from_slice(&[self.updates])),
        ]
    }

    /// Restores what [`Optimizer::state`] gave.
    pub fn load(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        let get = |name: &str| state.get(name).ok_or_else(|| Error::shape(name, "optimiser state", "none"));
        let (first, second, updates) = (get("first")?, get("second")?, get("updates")?);
        crate::tensor::check_shape("optimiser first moment", first, &self.first.size())?;
        crate::tensor::check_shape("optimiser second moment", second, &self.second.size())?;
        tch::no_grad(|| {
            self.first.copy_(first);
            self.second.copy_(second);
        });
        self.updates = updates.int64_value(&[0]);
        Ok(())
    }
}

/// Quintic Newton–Schulz iteration towards the nearest semi-orthogonal matrix (coefficients of Jordan et al.).
fn orthogonalise(moment: &Tensor, kind: Kind) -> Tensor {
    const A: f64 = 3.4445;
    const B: f64 = -4.7750;
    const C: f64 = 2.0315;
    let tall = moment.size()[0] > moment.size()[1];
    let mut x = if tall { moment.tr() } else { moment.shallow_clone() };
    x = (&x / (x.norm() + 1e-7)).to_kind(kind);
    for _ in 0..5 {
        let gram = x.matmul(&x.tr());
        let poly = &gram * B + gram.matmul(&gram) * C;
        x = &x * A + poly.matmul(&x);
    }
    if tall { x.tr() } else { x }.to_kind(Kind::Float)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parts::Schedule;
    use tch::Device;

    fn config(lr: f64, weight_decay: f64) -> OptimConfig {
        OptimConfig { lr, beta1: 0.9, beta2: 0.99, eps: 1e-8, weight_decay, max_grad_norm: 1e9, warmup_steps: 0 }
    }

    #[test]
    fn adamw_matches_libtorch() {
        let start = Tensor::from_slice(&[1.0f32, -2.0, 0.5, 3.0]).view([2, 2]);
        let target = Tensor::from_slice(&[0.0f32, 1.0, 2.0, -1.0]).view([2, 2]);
        let params = FlatParams::pack(&[("w".into(), start.copy())], Device::Cpu).unwrap();
        let mut ours = Optimizer::adamw(&config(0.1, 0.01), &params);
        let vs = tch::nn::VarStore::new(Device::Cpu);
        let theirs = vs.root().var_copy("w", &start);
        let mut reference = tch::nn::OptimizerConfig::build(
            tch::nn::AdamW { beta1: 0.9, beta2: 0.99, wd: 0.01, eps: 1e-8, amsgrad: false },
            &vs,
            0.1,
        )
        .unwrap();
        for _ in 0..7 {
            let loss = (&params.views()["w"] - &target).square().sum(Kind::Float);
            loss.backward();
            ours.step(&params, 1.0).unwrap().unwrap();
            reference.backward_step(&(&theirs - &target).square().sum(Kind::Float));
        }
        let gap = (params.leaf().detach() - theirs.detach().view([-1])).abs().max().double_value(&[]);
        assert!(gap < 1e-6, "{gap}");
    }

    #[test]
    fn orthogonalised_matrix_has_singular_values_near_one() {
        crate::rng::seed_torch(0, crate::rng::Stream::Init, 0, 0);
        let x = orthogonalise(&Tensor::randn([8, 24], (Kind::Float, Device::Cpu)), Kind::Float);
        let (_, s, _) = x.svd(true, false);
        assert!(s.min().double_value(&[]) > 0.5 && s.max().double_value(&[]) < 1.5, "{s:?}");
    }

    #[test]
    fn a_non_finite_gradient_changes_nothing() {
        let params = FlatParams::pack(&[("w".into(), Tensor::from_slice(&[1.0f32]))], Device::Cpu).unwrap();
        let mut optim = Optimizer::adamw(&config(0.1, 0.0), &params);
        (&params.views()["w"] * f64::NAN).sum(Kind::Float).backward();
        assert!(optim.step(&params, 1.0).unwrap().is_err());
        assert_eq!(params.leaf().double_value(&[0]), 1.0);
    }

    #[test]
    fn schedules_end_where_they_say() {
        let wsd = Schedule::Wsd { decay_frac: 0.5, floor: 0.1 };
        assert_eq!(wsd.factor(0, 100, 10), 0.1);
        assert_eq!(wsd.factor(30, 100, 10), 1.0);
        assert!((wsd.factor(100, 100, 10) - 0.1).abs() < 1e-12);
        assert!((Schedule::Cosine { floor: 0.0 }.factor(100, 100, 0)).abs() < 1e-12);
    }
}
