//! What is drawn by chance, the same on every machine.

/// A factor that is log-normal: its mean is 1, and `sigma` the standard deviation of its logarithm.
pub(crate) fn log_normal(rng: &mut fastrand::Rng, sigma: f64) -> f64 {
    // Box and Muller; functions of libm are the same on every machine.
    let (u, v) = (1.0 - rng.f64(), rng.f64());
    let normal = (-2.0 * libm::log(u)).sqrt() * libm::cos(std::f64::consts::TAU * v);
    libm::exp(sigma * normal - sigma * sigma / 2.0)
}

/// A factor that is exponential: its mean is 1.
pub(crate) fn exponential(rng: &mut fastrand::Rng) -> f64 {
    -libm::log(1.0 - rng.f64())
}
