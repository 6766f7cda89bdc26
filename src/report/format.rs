//! Formats of figures: percent for shares, four decimals for nats, `–` for what is undefined.

/// `0.4712` → `47.1 %`.
pub fn percent(share: f64) -> String {
    or_dash(share, |x| format!("{:.1} %", tidy(100.0 * x, 1)))
}

/// `47.1 % [42.0, 52.3]`; without brackets when the interval is unknown.
pub fn percent_ci(share: f64, ci: [f64; 2]) -> String {
    percent(share) + &interval(ci.map(|x| 100.0 * x), 1)
}

/// A difference of shares in percentage points: `+12.3 [8.1, 16.4]`.
pub fn points_ci(diff: f64, ci: [f64; 2]) -> String {
    or_dash(diff, |x| format!("{:+.1}", tidy(100.0 * x, 1))) + &interval(ci.map(|x| 100.0 * x), 1)
}

/// Nats per token, four decimals.
pub fn nats(value: f64) -> String {
    or_dash(value, |x| format!("{:.4}", tidy(x, 4)))
}

/// `0.1850 [0.1700, 0.2010]`.
pub fn nats_ci(value: f64, ci: [f64; 2]) -> String {
    nats(value) + &interval(ci, 4)
}

/// Seconds as `48 s`, `19 min 40 s` or `2 h 05 min`.
pub fn duration(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    match whole {
        0..60 => format!("{whole} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

/// `1234567` → `1,234,567`.
pub fn thousands(count: usize) -> String {
    let digits = count.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Number of decimals that tells apart about five even steps over `range`.
pub fn decimals(range: f64) -> usize {
    if range > 0.0 && range.is_finite() { (0.69 - range.log10()).ceil().clamp(0.0, 6.0) as usize } else { 2 }
}

fn interval([low, high]: [f64; 2], digits: usize) -> String {
    if low.is_finite() && high.is_finite() {
        format!(" [{:.digits$}, {:.digits$}]", tidy(low, digits), tidy(high, digits))
    } else {
        String::new()
    }
}

fn or_dash(value: f64, write: impl Fn(f64) -> String) -> String {
    if value.is_finite() { write(value) } else { "–".into() }
}

/// Zero for what would print as `-0.0`.
fn tidy(value: f64, digits: usize) -> f64 {
    if value.abs() < 0.5 * 10f64.powi(-(digits as i32)) { 0.0 } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures() {
        assert_eq!(percent(0.4712), "47.1 %");
        assert_eq!(percent(-0.0001), "0.0 %");
        assert_eq!(percent(f64::NAN), "–");
        assert_eq!(percent_ci(0.4712, [0.42, 0.523]), "47.1 % [42.0, 52.3]");
        assert_eq!(percent_ci(0.5, [f64::NAN, 0.6]), "50.0 %");
        assert_eq!(points_ci(0.123, [-0.08, 0.164]), "+12.3 [-8.0, 16.4]");
        assert_eq!(nats_ci(0.185, [0.17, 0.201]), "0.1850 [0.1700, 0.2010]");
        assert_eq!(
            ["48 s", "19 min 40 s", "2 h 05 min"],
            [48.2, 1180.0, 7500.0].map(duration).each_ref().map(|s| &s[..])
        );
        assert_eq!([999, 1000, 1_234_567].map(thousands), ["999", "1,000", "1,234,567"]);
    }

    #[test]
    fn decimals_follow_the_range() {
        assert_eq!([100.0, 10.0, 1.0, 0.1, 0.01].map(decimals), [0, 0, 1, 2, 3]);
        assert_eq!([0.0, f64::NAN, f64::INFINITY].map(decimals), [2, 2, 2]);
    }
}
