//! The command line.
fn main() {
    let t = tch::Tensor::randn([1024, 1024], (tch::Kind::Float, tch::Device::Cpu));
    let s = std::time::Instant::now();
    for _ in 0..20 {
        let _ = t.matmul(&t);
    }
    println!("{} GFLOP/s", 20.0 * 2.0 * 1.0737 / s.elapsed().as_secs_f64());
}
